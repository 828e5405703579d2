"""Nothing is fetched and no file is read, in whatever form an address or a path is written."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.serve_app.conftest import PROMPT, post_json

# {port}: of a listener of this test, on 127.0.0.1 and ::1. {file}: a photograph on this disk.
FORMS = (
    # the listener, by every name of this machine
    "http://127.0.0.1:{port}/a.png",
    "http://localhost:{port}/a.png",
    "HTTP://LOCALHOST:{port}/a.png",
    "https://127.0.0.1:{port}/a.png",
    "http://127.1:{port}/",
    "http://127.0.1:{port}/",
    "http://2130706433:{port}/",
    "http://0x7f000001:{port}/",
    "http://0x7f.0.0.1:{port}/",
    "http://0177.0.0.1:{port}/",
    "http://0:{port}/",
    "http://0.0.0.0:{port}/",
    "http://[::1]:{port}/",
    "http://[0:0:0:0:0:0:0:1]:{port}/",
    "http://[::ffff:127.0.0.1]:{port}/",
    "http://[::ffff:7f00:1]:{port}/",
    "http://[64:ff9b::7f00:1]:{port}/",
    "http://[2002:7f00:1::1]:{port}/",
    "http://[::127.0.0.1]:{port}/",
    "http://[::]:{port}/",
    "http://user:secret@127.0.0.1:{port}/",
    "http://example.com@127.0.0.1:{port}/",
    "http://127.0.0.1:{port}#@example.com/",
    "http://127.0.0.1.nip.io:{port}/",
    "http:/127.0.0.1:{port}/a.png",
    "//127.0.0.1:{port}/a.png",
    "127.0.0.1:{port}/a.png",
    "ftp://127.0.0.1:{port}/a.png",
    "gopher://127.0.0.1:{port}/_GET",
    "s3://127.0.0.1:{port}/a.png",
    "url:http://127.0.0.1:{port}/a.png",
    " http://127.0.0.1:{port}/a.png",
    "\thttp://127.0.0.1:{port}/a.png",
    # a cloud's metadata
    "http://169.254.169.254/latest/meta-data/",
    "http://2852039166/latest/meta-data/",
    "http://0xa9fea9fe/latest/meta-data/",
    "http://0251.0376.0251.0376/latest/meta-data/",
    "http://[64:ff9b::a9fe:a9fe]/latest/meta-data/",
    "http://metadata.google.internal/computeMetadata/v1/",
    # the file
    "file://{file}",
    "file:{file}",
    "FILE://localhost{file}",
    "file://127.0.0.1{file}",
    "local://{file}",
    "memory://{file}",
    "simplecache::file://{file}",
    "zip://a.png::file://{file}",
    "{file}",
    "../../../../../../../..{file}",
    "..%2f..%2f..%2f..{file}",
    "~/photo.png",
    "./photo.png",
    "\\\\127.0.0.1\\share\\photo.png",
    "C:\\photo.png",
    "{file}\x00.png",
)


class Listener:
    """Counts connections on one port of 127.0.0.1 and of ::1."""

    def __init__(self) -> None:
        self.connections = 0
        first = socket.create_server(("127.0.0.1", 0))
        self.port: int = first.getsockname()[1]
        self._sockets = [first]
        if socket.has_dualstack_ipv6():
            second = socket.create_server(("::1", self.port), family=socket.AF_INET6)
            self._sockets.append(second)
        for listening in self._sockets:
            threading.Thread(target=self._accept, args=[listening], daemon=True).start()

    def _accept(self, listening: socket.socket) -> None:
        while True:
            try:
                connection, _ = listening.accept()
            except OSError:
                return
            self.connections += 1
            connection.close()

    def close(self) -> None:
        for listening in self._sockets:
            listening.close()


@pytest.fixture(scope="module")
def listener() -> Iterator[Listener]:
    listening = Listener()
    yield listening
    listening.close()


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory, photographs: dict[str, bytes]) -> Path:
    """A photograph that was never read: its access time lies before its last change."""
    path = tmp_path_factory.mktemp("canary") / "photo.png"
    path.write_bytes(photographs["coffee"])
    os.utime(path, (1, 2))
    return path


def test_every_form_of_address_and_path_is_refused_unread(
    http: httpx.Client, listener: Listener, file: Path
) -> None:
    assert len(FORMS) >= 40
    for form in FORMS:
        url = form.format(port=listener.port, file=file)
        response = post_json(http, url, num_inference_steps=1)
        assert response.status_code == 400, (url, response.text)
        error = response.json()["error"]
        refused = ("image_source_refused", "images[0].image_url")
        assert (error["code"], error["param"]) == refused, url
        assert "secret" not in response.text
    assert (listener.connections, file.stat().st_atime) == (0, 1)


def test_a_form_field_is_no_way_around_it(
    http: httpx.Client, listener: Listener, file: Path
) -> None:
    for form in FORMS[::4]:
        url = form.format(port=listener.port, file=file).replace("\0", "")
        for field in ("image", "image[]", "mask", "image_url", "url"):
            parts = {"prompt": (None, PROMPT), field: (None, url)}
            response = http.post("/v1/images/edits", files=parts)
            assert response.status_code == 400, (field, url, response.text)
    assert (listener.connections, file.stat().st_atime) == (0, 1)


def test_the_listener_and_the_file_would_have_told(listener: Listener, file: Path) -> None:
    """The controls of the two tests above; they come last, as they leave traces."""
    with socket.create_connection(("127.0.0.1", listener.port)) as connection:
        assert connection.recv(1) == b""
    assert listener.connections == 1
    file.read_bytes()
    if file.stat().st_atime == 1:
        pytest.skip("this file system keeps no access times: the file's half proves nothing here")
