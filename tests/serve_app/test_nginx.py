"""The nginx of docs/serving.md before the app: a prefix, photographs of megabytes, events."""

from __future__ import annotations

import asyncio
import base64
import re
import shutil
import subprocess
from collections.abc import AsyncGenerator, Iterator
from pathlib import Path

import httpx
import numpy as np
import openai
import pytest

from engine.edit import EditOutcome, EditRequest
from engine.spec import ModelSpec
from serve_app.backend import Preview
from serve_app.config import ServeConfig
from serve_app.ingress.api import make_app
from tests.conftest import png
from tests.serve_app.conftest import PROMPT, Mirror, data_url, service_of
from tests.serve_app.local import over_http
from tests.serving import eventually, free_port

NGINX = shutil.which("nginx", path="/usr/sbin:/usr/local/sbin:/usr/bin:/opt/homebrew/bin")
PAGE = Path(__file__).parents[2] / "docs" / "serving.md"
SERVER = """
daemon off; master_process off; error_log {folder}/error.log; pid {folder}/pid;
events {{}}
http {{
    access_log off; client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/1; uwsgi_temp_path {folder}/2; scgi_temp_path {folder}/3;
    server {{ listen 127.0.0.1:{port}; {block} }}
}}
"""


class Waiting(Mirror):
    """Streams its edit when it is let."""

    def __init__(self) -> None:
        self.let = False

    async def edit_stream(
        self, request: EditRequest
    ) -> AsyncGenerator[Preview | EditOutcome, None]:
        while not self.let:
            await asyncio.sleep(0.01)
        yield await self.edit(request)


@pytest.fixture
def waiting() -> Waiting:
    return Waiting()


@pytest.fixture
def nginx(pocket: ModelSpec, waiting: Waiting, tmp_path: Path) -> Iterator[str]:
    """The address of the app behind nginx."""
    if NGINX is None:
        pytest.skip("nginx is not installed")
    (block,) = re.findall(r"```nginx\n(.*?)```", PAGE.read_text(), re.DOTALL)
    service = service_of(ServeConfig(decode_workers=1), pocket, waiting)
    port = free_port()
    with over_http(make_app(service)) as url:
        block = block.replace("http://127.0.0.1:8000", url)
        config = tmp_path / "nginx.conf"
        config.write_text(SERVER.format(folder=tmp_path, port=port, block=block))
        process = subprocess.Popen([NGINX, "-p", str(tmp_path), "-c", str(config)])
        address = f"http://127.0.0.1:{port}/rayedit"
        try:
            assert eventually(lambda: answers(address)), (tmp_path / "error.log").read_text()
            yield address
        finally:
            process.terminate()
            process.wait()
    service.close()


def answers(address: str) -> bool:
    try:
        return httpx.get(f"{address}/healthz").status_code == 200
    except httpx.TransportError:
        return False


def test_pages_and_the_sdk_work_behind_a_prefix_with_photographs_of_megabytes(nginx: str) -> None:
    for path in ("/", "/docs", "/openapi.json", "/docs-files/swagger-ui.css"):
        assert httpx.get(f"{nginx}{path}").status_code == 200, path
    noise = np.random.default_rng(0).integers(0, 256, (1200, 1200, 3), np.uint8)
    photo = png(noise)
    assert len(photo) > 4 * 2**20
    with openai.OpenAI(base_url=f"{nginx}/v1", api_key="none", max_retries=0) as sdk:
        (made,) = sdk.images.edit(image=("a.png", photo), prompt=PROMPT).data or []
    assert base64.b64decode(made.b64_json or "").startswith(b"\x89PNG")


def test_events_come_through_while_the_edit_is_made(
    nginx: str, waiting: Waiting, photographs: dict[str, bytes]
) -> None:
    body = {
        "prompt": PROMPT,
        "images": [{"image_url": data_url(photographs["coffee"])}],
        "stream": True,
    }
    with httpx.stream("POST", f"{nginx}/v1/images/edits", json=body, timeout=30) as response:
        chunks = response.iter_text()
        assert next(chunks).startswith(": ")
        waiting.let = True
        assert "event: image_edit.completed" in "".join(chunks)
