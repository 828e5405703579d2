"""Files that clients keep on a server, each its owner's alone: what they upload, what batches make.

Below the folder of all of it:

    clients/OWNER/data/ID       an image; ID.jsonl: lines of a batch
    clients/OWNER/files/ID.json what is told of it; a file is there as soon as this is
    expiring/HOUR/OWNER.ID      a file that is to be removed when this hour has come

Ids begin with the time, so the order of names is the order in which files were made.
"""

from __future__ import annotations

import json
import re
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import Literal

from storage.storage import Storage

Purpose = Literal["batch", "batch_output", "user_data", "vision"]  # OpenAI's words
Order = Literal["asc", "desc"]

CLIENTS, EXPIRING = "clients", "expiring"
HOUR_S = 3600
CHUNK_BYTES = 2**20
READERS = 16  # threads: storage far away answers each request after a while
LINES: tuple[Purpose, ...] = ("batch", "batch_output")
_FILE_ID = re.compile(r"file-[0-9a-f]{32}")


def new_token(now_s: float) -> str:
    """Make 32 hexadecimal digits that sort by time: twelve of milliseconds, twenty of chance."""
    return f"{int(now_s * 1000):012x}{uuid.uuid4().hex[:20]}"


def page_of(ids: list[str], after: str | None, limit: int, order: Order) -> tuple[list[str], bool]:
    """Cut a page out of ids: at most `limit` behind `after`; returns whether there are more."""
    ordered = sorted(ids, reverse=order == "desc")
    if after is not None:
        ordered = [id for id in ordered if (id < after if order == "desc" else id > after)]
    return ordered[:limit], len(ordered) > limit


@dataclass(frozen=True, slots=True)
class StoredFile:
    """Tells of a file all but its bytes."""

    id: str
    size_bytes: int
    created_at: int  # unix time in seconds, as is `expires_at`
    filename: str  # as its owner calls it
    purpose: Purpose
    expires_at: int | None = None

    @property
    def name(self) -> str:
        """Name it in the folder of the data: of lines with the ending that readers go by."""
        return f"{self.id}.jsonl" if self.purpose in LINES else self.id


class FileStore:
    """The files of one owner. `clock` gives unix time in seconds.

    Raises `OSError` where storage fails.
    """

    def __init__(
        self, storage: Storage, owner: str, clock: Callable[[], float] = time.time
    ) -> None:
        self._storage, self._owner, self._clock = storage, owner, clock
        self._folder = f"{CLIENTS}/{owner}"

    @property
    def data_uri(self) -> str:
        """Return the folder in which every file lies under its `name`."""
        return self._storage.uri(f"{self._folder}/data")

    def add(
        self, data: bytes, filename: str, purpose: Purpose, lifetime_s: int | None
    ) -> StoredFile:
        """Keep a file, for `lifetime_s` seconds or until it is removed."""
        id = f"file-{new_token(self._clock())}"
        file = self.made(id, len(data), filename, purpose, lifetime_s)
        self._storage.publish(self._data(file), data)
        self.register(file)
        return file

    def made(
        self, id: str, size_bytes: int, filename: str, purpose: Purpose, lifetime_s: int | None
    ) -> StoredFile:
        """Describe a file that is made now."""
        now = int(self._clock())
        expires_at = None if lifetime_s is None else now + lifetime_s
        return StoredFile(id, size_bytes, now, filename, purpose, expires_at)

    def register(self, file: StoredFile) -> None:
        """Have a file be there whose data is."""
        if file.expires_at is not None:
            hour = -(-file.expires_at // HOUR_S) * HOUR_S
            self._storage.publish(f"{EXPIRING}/{hour}/{self._owner}.{file.id}", b"")
        self._storage.publish(self._told(file.id), json.dumps(asdict(file)).encode())

    def find(self, id: str) -> StoredFile | None:
        """Find a file of this owner; None where there is none, or none any more."""
        if not _FILE_ID.fullmatch(id):
            return None
        try:
            file = StoredFile(**json.loads(self._storage.read(self._told(id))))
        except FileNotFoundError:
            return None
        is_over = file.expires_at is not None and self._clock() >= file.expires_at
        return None if is_over else file

    def page(
        self, after: str | None, limit: int, order: Order, purpose: str | None
    ) -> tuple[list[StoredFile], bool]:
        """List files behind `after`, at most `limit`; returns whether there are more."""
        names = self._storage.list(f"{self._folder}/files", ".json")
        ids = [name.rpartition("/")[2].removesuffix(".json") for name in names]
        if purpose is None:
            ids, has_more = page_of(ids, after, limit, order)
            return self._each(ids), has_more
        fitting = [file.id for file in self._each(ids) if file.purpose == purpose]
        ids, has_more = page_of(fitting, after, limit, order)
        return self._each(ids), has_more

    def read(self, file: StoredFile) -> bytes:
        """Read all of a file; raises `FileNotFoundError` where it was removed meanwhile."""
        return self._storage.read(self._data(file))

    def chunks(self, file: StoredFile) -> Iterator[bytes]:
        """Read a file part by part."""
        for start in range(0, file.size_bytes, CHUNK_BYTES):
            end = min(start + CHUNK_BYTES, file.size_bytes)
            yield self._storage.read_range(self._data(file), start, end)

    def remove(self, file: StoredFile) -> None:
        """Remove a file; nothing happens where it is gone."""
        self._storage.remove(self._told(file.id))
        self._storage.remove(self._data(file))

    def _each(self, ids: list[str]) -> list[StoredFile]:
        with ThreadPoolExecutor(READERS) as pool:
            return [file for file in pool.map(self.find, ids) if file is not None]

    def _data(self, file: StoredFile) -> str:
        return f"{self._folder}/data/{file.name}"

    def _told(self, id: str) -> str:
        return f"{self._folder}/files/{id}.json"


def remove_expired(storage: Storage, now_s: float) -> None:
    """Remove the files of all owners whose time is over, within an hour."""
    for folder in storage.list(EXPIRING):
        hour = folder.rpartition("/")[2]
        if not hour.isdigit() or int(hour) > now_s:
            continue
        for path in storage.list(folder):
            owner, _, id = path.rpartition("/")[2].partition(".")
            store = FileStore(storage, owner, lambda: 0.0)  # to which none has expired
            file = store.find(id)
            if file is not None and file.expires_at is not None and file.expires_at <= now_s:
                store.remove(file)
        storage.remove_folder(folder)
