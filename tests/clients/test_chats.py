"""Edits as chat programs send them: the requests of Open WebUI and LibreChat, field by field."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest

from engine.spec import ModelSpec
from serve_app.config import ServeConfig
from serve_app.ingress.api import make_app
from tests.serve_app.conftest import Mirror, files_of, pixels_of, service_of
from tests.serve_app.local import over_http

BOUNDARY = "----formdata"
NAMES = {"open-webui": "image", "open-webui, several": "image[]", "librechat": "image[]"}
# Open WebUI's `routers/images.py` at 02530d5, `image_edits` with the engine "openai".
OPEN_WEBUI = {"model": "gpt-image-1", "prompt": "make it night", "n": "1", "size": "128x96"}
# LibreChat's `OpenAIImageTools.js`, `image_edit_oai`.
LIBRECHAT = {
    "model": "gpt-image-1",
    "prompt": "make it night",
    "quality": "auto",
    "size": "auto",
}
FIELDS = {
    "open-webui": {**OPEN_WEBUI, "response_format": "b64_json"},
    "open-webui, several": {**OPEN_WEBUI, "background": "auto", "response_format": "b64_json"},
    "librechat": LIBRECHAT,
}


@pytest.fixture(scope="module")
def url(pocket: ModelSpec) -> Iterator[str]:
    config = ServeConfig(decode_workers=1, aliases=("gpt-image-1",))
    service = service_of(config, pocket, Mirror())
    with over_http(make_app(service)) as address:
        yield address
    service.close()


def body(fields: dict[str, str], name: str, image: bytes) -> Iterator[bytes]:
    """A form in pieces, as form-data and aiohttp send it: its length is not told."""
    for field, value in fields.items():
        yield f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{field}"\r\n\r\n'.encode()
        yield value.encode() + b"\r\n"
    head = (
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"; filename="image.jpg"\r\n'
    )
    yield head.encode() + b"Content-Type: image/jpeg\r\n\r\n"
    yield from (image[at : at + 8192] for at in range(0, len(image), 8192))
    yield f"\r\n--{BOUNDARY}--\r\n".encode()


@pytest.mark.parametrize("program", FIELDS)
def test_an_edit_of_a_chat_program_is_answered(
    url: str, program: str, photographs: dict[str, bytes]
) -> None:
    headers = {
        "Authorization": "Bearer any",
        "Content-Type": f"multipart/form-data; boundary={BOUNDARY}",
    }
    with httpx.Client(base_url=url, timeout=60) as client:
        answer = client.post(
            "/v1/images/edits",
            params={"api-version": "2025-04-01-preview"},  # Azure's, which both can add
            headers=headers,
            content=body(FIELDS[program], NAMES[program], photographs["coffee"]),
        )
    (file,) = files_of(answer)
    width, height = (
        (128, 96) if "size" in FIELDS[program] and program != "librechat" else (600, 400)
    )
    assert pixels_of(file).shape == (height, width, 3)
