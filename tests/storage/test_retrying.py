"""Which faults of storage are asked again, over real HTTP."""

from __future__ import annotations

import errno
import http.server
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from storage import retrying
from storage.retrying import is_transient
from storage.storage import Storage
from tests.batch_jobs.fault_proxy import FaultProxy, fault_proxy


@pytest.fixture
def web(tmp_path: Path) -> Iterator[FaultProxy]:
    """A file server of `tmp_path` behind a proxy that can fail."""

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *args: object) -> None:
            super().__init__(*args, directory=str(tmp_path))  # type: ignore[arg-type]

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        with fault_proxy(server.server_address[1]) as proxy:
            yield proxy
        server.shutdown()
        thread.join()


def test_a_503_is_asked_again_until_it_is_answered(web: FaultProxy, tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"here")
    storage = Storage(web.url)
    web.outage = 3
    assert storage.read("x") == b"here"
    assert web.faults == 3


def test_a_missing_file_is_not_asked_for_again(web: FaultProxy) -> None:
    with pytest.raises(FileNotFoundError):
        Storage(web.url).read("x")
    assert web.requests == 1


def test_storage_that_stays_away_is_an_os_error(web: FaultProxy) -> None:
    web.outage = 100
    with pytest.raises(OSError, match="503"):
        Storage(web.url).read("x")
    assert web.faults == retrying.ATTEMPTS


@pytest.mark.parametrize(
    ("error", "transient"),
    [
        (TimeoutError("slow"), True),
        (ConnectionResetError("reset"), True),
        (OSError(errno.ENOSPC, "no space left on device"), False),
        (PermissionError("denied"), False),
        (FileNotFoundError("none"), False),
    ],
)
def test_only_what_may_pass_is_transient(error: OSError, transient: bool) -> None:
    assert is_transient(error) is transient
    wrapped = OSError("wrapped")
    wrapped.__cause__ = error
    assert is_transient(wrapped) is transient
