"""The body of `POST /v1/images/edits` as one record, from multipart or JSON."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Collection
from dataclasses import dataclass
from typing import Any, Literal

from fastapi import Request
from python_multipart.multipart import parse_options_header

from engine.errors import ImageMissing, OptionInvalid
from engine.fields import MAX_SHOWN
from engine.formats import taken_format
from engine.options import EditOptions
from engine.sources import check_data_url, naming_image
from engine.wire import EditBody
from serve_app.errors import BodyTooLarge, BodyTooSlow, MediaTypeUnsupported
from serve_app.ingress.form import read_form

BodyKind = Literal["multipart/form-data", "application/json"]
# a file, or what is not yet looked at: a data URL, or the `FileId` of one that was uploaded before
Sent = bytes | str
SMALL_BODY_BYTES = 2**20  # is read in about a millisecond
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


def body_kind(request: Request) -> BodyKind:
    """Tell the kind of body that the headers announce; raises `MediaTypeUnsupported`."""
    encoding = request.headers.get("content-encoding", "identity").strip()
    if encoding.lower() not in ("", "identity"):
        raise MediaTypeUnsupported(
            f'content-encoding "{encoding[:MAX_SHOWN]}" is not read here: send the body as it is'
        )
    named, _ = parse_options_header(request.headers.get("content-type", ""))
    match named.decode("latin-1").strip().lower():
        case "multipart/form-data" | "application/json" as kind:
            return kind
    raise MediaTypeUnsupported("send multipart/form-data or application/json")


def is_small(request: Request) -> bool:
    """Tell whether the headers announce a body of at most `SMALL_BODY_BYTES`, of a kind that is
    read; raises `MediaTypeUnsupported`."""
    body_kind(request)
    length = request.headers.get("content-length", "")
    return length.isdigit() and int(length) <= SMALL_BODY_BYTES


async def read_edit(request: Request, max_body_bytes: int) -> ParsedEdit:
    """Read the body of an edit; raises `RequestError`."""
    kind, chunks = body_kind(request), bounded(request, max_body_bytes)
    if kind == "application/json":
        return parse_json(b"".join([chunk async for chunk in chunks]))
    form = await read_form(request, chunks)
    body = _check_streaming(EditBody.parse(form.texts, strict=False, http=True))
    options, instruction = body.options(strict=False), body.instruction()
    if not form.images:
        raise ImageMissing("image is missing: send it as a file")
    return ParsedEdit(body, options, instruction, [*form.images], "image", form.mask)


def check_undecoded(parsed: ParsedEdit, accept: Collection[str] = ()) -> None:
    """Refuse what is known to be wrong without decoding an image.

    `accept`: formats beside JPEG, PNG and WebP. Raises `OptionInvalid`, `ImageError`.
    """
    body = parsed.body
    if body.output_format in (None, "png") and body.output_compression not in (None, 100):
        raise OptionInvalid(
            "output_compression: PNG is lossless; leave it out, or ask for output_format jpeg or "
            "webp",
            param="output_compression",
        )
    for number, image in enumerate(parsed.images, start=1):
        with naming_image(number, len(parsed.images)):
            if isinstance(image, str):
                check_data_url(image, f"images[{number - 1}].image_url")
            elif image:
                taken_format(image, accept)
    if isinstance(parsed.mask, str):
        check_data_url(parsed.mask, "mask.image_url")


async def bounded(request: Request, max_body_bytes: int) -> AsyncGenerator[bytes, None]:
    """Yield the body's chunks; raises `BodyTooLarge` as soon as they are over the limit, and
    `BodyTooSlow` where they come too slowly: what they are of has a place meanwhile."""
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
    """Read a JSON body, with `images: [{"image_url": "data:..."}]` (or a `file_id`) and, if it has
    one, such a `mask`; raises `RequestError`."""
    body = _check_streaming(EditBody.parse(load_object(data), http=True))
    options, instruction = body.options(), body.instruction()
    images: list[Sent] = [*body.image_urls(file_ids=True)]
    mask = body.mask_url(file_ids=True)
    return ParsedEdit(body, options, instruction, images, "images", mask)


def _check_streaming(body: EditBody) -> EditBody:
    if body.partial_images and not body.stream:
        raise OptionInvalid(
            f"partial_images: {body.partial_images} needs stream=true", param="partial_images"
        )
    return body


def load_object(data: bytes) -> dict[str, Any]:
    """Read a JSON body that is an object; raises `OptionInvalid`."""
    parts = sum(data.count(sign) for sign in (b",", b"[", b"{"))  # what parsing takes memory for
    if parts > MAX_JSON_PARTS:
        raise OptionInvalid(
            f"the body has {parts:,} commas and brackets; none needs more than {MAX_JSON_PARTS:,}"
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
