"""What differs between storages is what the table says, wherever it is asked."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from batch_jobs.manifest.source_versions import source_versions, version_of
from engine.errors import OutputUnusable
from storage.backends import BACKENDS, Backend, backend_of
from storage.retrying import is_refused_as_present, is_transient
from storage.storage import Storage


def each(*fields: str) -> list[object]:
    """The backends for which the table says something in one of the fields."""
    found = [backend for backend in BACKENDS if any(getattr(backend, name) for name in fields)]
    return [pytest.param(backend, id=backend.scheme) for backend in found]


@pytest.mark.parametrize(
    ("location", "scheme"),
    [("a/b.png", "file"), ("/a", "file"), ("file:///a", "file"), ("S3://b/a", "s3")],
)
def test_a_location_names_its_backend(location: str, scheme: str) -> None:
    backend = backend_of(location)
    assert backend is not None and backend.scheme == scheme


def test_a_scheme_that_is_not_in_the_table_has_no_backend() -> None:
    assert backend_of("https://host/a.png") is None


@pytest.mark.parametrize("backend", [b for b in BACKENDS if not b.may_be_output])
def test_what_workers_do_not_share_or_cannot_write_is_no_output(backend: Backend) -> None:
    with pytest.raises(OutputUnusable, match=rf"do not share {backend.scheme}://.*file://, s3://"):
        Storage.open(f"{backend.scheme}://somewhere/out")


@pytest.mark.parametrize("backend", each("transient"))
def test_the_errors_that_a_backend_names_are_asked_again(backend: Backend) -> None:
    for name in backend.transient:
        error = type(name, (Exception,), {})("as its client raises it")
        assert is_transient(error)
        wrapped = OSError("as fsspec wraps it")
        wrapped.__cause__ = error
        assert is_transient(wrapped)
    assert not is_transient(type("SomethingElse", (Exception,), {})("told by no backend"))


@pytest.mark.parametrize("backend", each("refused_as_present"))
def test_the_statuses_that_a_backend_names_refuse_what_is_there(backend: Backend) -> None:
    for status in backend.refused_as_present:
        error = OSError("as fsspec wraps it")
        error.__cause__ = answered = Exception("as its client raises it")
        answered.response = {"ResponseMetadata": {"HTTPStatusCode": status}}  # type: ignore[attr-defined]
        assert is_refused_as_present(error)
    assert not is_refused_as_present(FileNotFoundError("missing"))


def test_a_local_file_has_a_new_version_when_its_time_changes(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(b"1234")
    os.utime(path, (1, 1))
    before = version_of(str(path))
    assert before == "4 1.0"
    os.utime(path, (2, 2))
    assert version_of(str(path)) != before
    assert source_versions(["a.png", "none.png", None], str(tmp_path)) == ["4 2.0", "absent", None]
