"""The body of `POST /v1/images/edits` as one record, from multipart or JSON."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Any

from fastapi import Request
from python_multipart.multipart import parse_options_header
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser

from engine.errors import ImageMissing, MaskInvalid, OptionInvalid
from engine.fields import MAX_SHOWN
from engine.options import EditOptions
from engine.wire import EditBody
from serve_app.errors import BodyTooLarge, BodyTooSlow, MediaTypeUnsupported

IMAGE_FIELDS = ("image", "image[]")  # the SDK sends the second for a list

Sent = bytes | str  # a file, or a data URL that is not yet looked at
MAX_FIELDS = 64
MAX_FIELD_BYTES = 64 * 2**10
IDLE_S = 10.0  # without a byte of the body, and behind the rate
MIN_BYTES_PER_S = 50_000
MAX_JSON_PARTS = 10_000  # two texts of 2,000 characters may be all commas; a data URL has one


@dataclass(frozen=True, slots=True)
class ParsedEdit:
    """An edit as it was sent, its fields checked."""

    body: EditBody
    options: EditOptions
    instruction: str  # empty where its style is to say it
    images: list[Sent]  # the source, and after it further ones
    images_field: str  # what they were sent as
    mask: Sent | None


async def read_edit(request: Request, max_body_bytes: int) -> ParsedEdit:
    """Read the body of an edit; raises `RequestError`."""
    content_type = request.headers.get("content-type", "")
    kind_bytes, parameters = parse_options_header(content_type)
    kind = kind_bytes.decode("latin-1").strip().lower()
    chunks = _bounded(request, max_body_bytes)
    if kind == "application/json":
        return parse_json(b"".join([chunk async for chunk in chunks]))
    if kind == "multipart/form-data":
        _check_charset(parameters.get(b"charset", b"utf-8").decode("latin-1"))
        return await _parse_form(request, chunks)
    raise MediaTypeUnsupported("send multipart/form-data or application/json")


def _check_charset(charset: str) -> None:
    """Refuse other texts in a form: the parser would take any codec that Python has, slow ones
    too."""
    if charset.lower() not in ("utf-8", "utf8"):
        raise OptionInvalid(f'the charset of a form must be utf-8; got "{charset[:MAX_SHOWN]}"')


async def _bounded(request: Request, max_body_bytes: int) -> AsyncGenerator[bytes, None]:
    """Yield the body's chunks; raises `BodyTooLarge` as soon as they are over the limit, and
    `BodyTooSlow` where they come too slowly: the edit has a place meanwhile."""
    size = 0
    stream = request.stream()
    clock = asyncio.get_running_loop().time
    started = clock()
    while True:
        latest = min(clock(), started + size / MIN_BYTES_PER_S) + IDLE_S
        try:
            async with asyncio.timeout_at(latest):
                chunk = await anext(stream)
        except StopAsyncIteration:
            return
        except TimeoutError:
            raise _too_slow(size, clock() - started) from None
        size += len(chunk)
        if size > max_body_bytes:
            raise BodyTooLarge.over(max_body_bytes)
        yield chunk


def _too_slow(size_bytes: int, took_s: float) -> BodyTooSlow:
    return BodyTooSlow(
        f"the body came too slowly: {size_bytes:,} bytes in {took_s:.0f} s; send on within "
        f"{IDLE_S:g} s, and {MIN_BYTES_PER_S:,} bytes/s or more"
    )


def parse_json(data: bytes) -> ParsedEdit:
    """Read a JSON body, with `images: [{"image_url": "data:..."}]` and, if it has one, such a
    `mask`; raises `RequestError`."""
    body = _check_streaming(EditBody.parse(_load_object(data), streaming=True))
    options, instruction = body.options(), body.instruction()
    images: list[Sent] = [*body.image_urls()]
    return ParsedEdit(body, options, instruction, images, "images", body.mask_url())


def _check_streaming(body: EditBody) -> EditBody:
    if body.partial_images and not body.stream:
        raise OptionInvalid(
            f"partial_images: {body.partial_images} needs stream=true", param="partial_images"
        )
    return body


def _load_object(data: bytes) -> dict[str, Any]:
    parts = sum(data.count(sign) for sign in (b",", b"[", b"{"))  # what parsing takes memory for
    if parts > MAX_JSON_PARTS:
        raise OptionInvalid(
            f"the body has {parts:,} commas and brackets; an edit needs no more than "
            f"{MAX_JSON_PARTS:,}"
        )
    try:
        loaded = json.loads(data, object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        raise OptionInvalid(f"the body is not valid JSON: {error}") from None
    if not isinstance(loaded, dict):
        raise OptionInvalid(f"the body must be a JSON object; got {type(loaded).__name__}")
    return loaded


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for name, value in pairs:
        if name in values:
            shown = name[:MAX_SHOWN]
            raise OptionInvalid(f"{shown} is given more than once", param=shown)
        values[name] = value
    return values


class _InMemoryParser(MultiPartParser):
    spool_max_size = 2**31  # the body's own limit holds: no temporary file, no blocking write


async def _parse_form(request: Request, chunks: AsyncGenerator[bytes, None]) -> ParsedEdit:
    parser = _InMemoryParser(
        request.headers,
        chunks,
        max_files=MAX_FIELDS,
        max_fields=MAX_FIELDS,
        max_part_size=MAX_FIELD_BYTES,
    )
    try:
        form = await parser.parse()
    except MultiPartException as error:
        raise OptionInvalid(f"the multipart body cannot be read: {error.message}") from None
    items = form.multi_items()
    values = _unique([(name, value) for name, value in items if name not in IMAGE_FIELDS])
    uploads = [value for name, value in items if name in IMAGE_FIELDS]
    mask = values.pop("mask", None)
    body = _check_streaming(EditBody.parse(_texts(values), strict=False, streaming=True))
    options, instruction = body.options(strict=False), body.instruction()
    images = await _images(uploads)
    return ParsedEdit(body, options, instruction, images, "image", await _mask(mask))


def _texts(values: dict[str, Any]) -> dict[str, Any]:
    for name, value in values.items():
        if isinstance(value, UploadFile) and name in EditBody.model_fields:
            raise OptionInvalid(f"{name} must be a text field, not a file", param=name)
    return values


async def _images(uploads: list[str | UploadFile]) -> list[Sent]:
    if not uploads:
        raise ImageMissing("image is missing: send it as a file")
    files: list[Sent] = []
    for upload in uploads:
        if isinstance(upload, str):
            raise ImageMissing("image must be a file; a data URL goes into a JSON body")
        files.append(await upload.read())
    return files


async def _mask(upload: str | UploadFile | None) -> bytes | None:
    if isinstance(upload, str):
        raise MaskInvalid("mask must be a file; a data URL goes into a JSON body")
    return None if upload is None else await upload.read()
