"""Files of clients: each its owner's alone, in the order in which they came, until their time."""

from __future__ import annotations

import pytest

from storage.file_store import HOUR_S, FileStore, StoredFile, remove_expired
from storage.storage import Storage
from tests.serve_app.test_results import place

__all__ = ["place"]

DATA = bytes(range(256)) * 5000  # more than one chunk


class Clock:
    now_s = 1_764_385_200.25

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(place: str, clock: Clock) -> FileStore:
    """Ann's, in a folder and in a bucket."""
    Storage(place).make()
    return FileStore(Storage(place), "ann", clock)


def add(store: FileStore, clock: Clock, count: int, **how: object) -> list[StoredFile]:
    files = []
    for number in range(count):
        clock.now_s += 1
        files.append(store.add(b"x", f"{number}.png", how.get("purpose", "vision"), None))  # type: ignore[arg-type]
    return files


def test_a_file_comes_back_whole_and_part_by_part(store: FileStore) -> None:
    file = store.add(DATA, "photo.jpg", "vision", None)
    assert (file.size_bytes, file.created_at, file.expires_at) == (len(DATA), 1_764_385_200, None)
    assert store.find(file.id) == file and store.read(file) == DATA
    parts = list(store.chunks(file))
    assert len(parts) == 2 and b"".join(parts) == DATA


def test_an_id_of_another_owner_or_of_a_path_is_no_file(store: FileStore, place: str) -> None:
    file = store.add(DATA, "photo.jpg", "vision", None)
    assert FileStore(Storage(place), "bob").find(file.id) is None
    for id in ("", "file-", f"../files/{file.id}", f"{file.id}/", file.id.upper(), f"{file.id}0"):
        assert store.find(id) is None


def test_what_is_removed_is_gone_and_can_be_removed_again(store: FileStore, place: str) -> None:
    file = store.add(DATA, "lines.jsonl", "batch", 3600)
    for _ in range(2):
        store.remove(file)
    assert store.find(file.id) is None and Storage(place).files("clients") == []


def test_pages_follow_each_other_in_both_orders_and_by_purpose(
    store: FileStore, clock: Clock
) -> None:
    files = add(store, clock, 5)
    lines = add(store, clock, 2, purpose="batch")
    newest_first = [*files, *lines][::-1]
    assert store.page(None, 3, "desc", None) == (newest_first[:3], True)
    assert store.page(newest_first[2].id, 4, "desc", None) == (newest_first[3:], False)
    assert store.page(files[3].id, 2, "asc", None) == ([files[4], lines[0]], True)
    assert store.page(None, 10, "asc", "batch") == (lines, False)
    assert store.page(files[0].id, 10, "desc", None) == ([], False)


def test_a_file_is_gone_when_its_time_is_over_and_removed_within_the_hour(
    store: FileStore, clock: Clock, place: str
) -> None:
    storage = Storage(place)
    kept, short = (store.add(b"x", "a", "batch", lifetime) for lifetime in (None, 3600))
    clock.now_s += 3599
    assert store.find(short.id) == short
    clock.now_s += 1
    assert store.find(short.id) is None and store.page(None, 9, "desc", None) == ([kept], False)
    remove_expired(storage, clock.now_s - 2 * HOUR_S)
    assert any(short.id in path for path in storage.files("clients"))
    remove_expired(storage, clock.now_s + HOUR_S)
    assert not any(
        short.id in path for path in [*storage.files("clients"), *storage.files("expiring")]
    )
    assert store.find(kept.id) == kept
