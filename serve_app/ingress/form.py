"""The multipart body of an edit: its texts, its images, its mask."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import NoReturn

from fastapi import Request
from python_multipart.multipart import parse_options_header
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser

from engine.errors import ImageMissing, MaskInvalid, OptionInvalid, OptionUnknown
from engine.fields import MAX_SHOWN, nearest
from engine.wire import EditBody

IMAGE_FIELDS = ("image", "image[]")  # the SDK sends the second for a list
KNOWN_FIELDS = set(EditBody.model_fields) - {"images"} | {"image"}
ABSENT = ("", "null")  # what forms and clients send of a field that is not there
MAX_FIELDS = 64
MAX_FIELD_BYTES = 64 * 2**10
MAX_PREAMBLE_BYTES = 64 * 2**10  # that MIME lets stand before the first boundary


@dataclass(frozen=True, slots=True)
class Form:
    """A form as it was sent: an empty field, and the text `null`, is an absent one."""

    texts: dict[str, str]  # of known fields
    images: list[bytes]
    mask: bytes | None


async def read_form(request: Request, chunks: AsyncGenerator[bytes, None]) -> Form:
    """Read the form of an edit; raises `RequestError`."""
    return await _sorted(await read_fields(request, chunks))


async def read_fields(
    request: Request, chunks: AsyncGenerator[bytes, None]
) -> list[tuple[str, str | UploadFile]]:
    """Read the fields of a multipart body in UTF-8 that are not absent; raises `RequestError`."""
    _, parameters = parse_options_header(request.headers["content-type"])
    charset = parameters.get(b"charset", b"utf-8").decode("latin-1")
    if charset.lower() not in ("utf-8", "utf8"):  # any codec that Python has, slow ones too
        raise OptionInvalid(f'the charset of a form must be utf-8; got "{charset[:MAX_SHOWN]}"')
    parser = _Parser(
        request.headers,
        _without_preamble(chunks, parameters.get(b"boundary", b"")),
        max_files=MAX_FIELDS,
        max_fields=MAX_FIELDS,
        max_part_size=MAX_FIELD_BYTES,
    )
    try:
        form = await parser.parse()
    except MultiPartException as error:
        raise OptionInvalid(f"the multipart body cannot be read: {error.message}") from None
    if not parser.is_whole:
        raise OptionInvalid(
            "the multipart body ends before its closing boundary: it was cut off on its way; "
            "send it again"
        )
    return [item for item in form.multi_items() if not _is_absent(item[1])]


async def _sorted(items: list[tuple[str, str | UploadFile]]) -> Form:
    texts: dict[str, str] = {}
    images: list[bytes] = []
    mask: bytes | None = None
    for name, value in items:
        shown = name[:MAX_SHOWN]
        if name in IMAGE_FIELDS:
            images.append(await _file(name, value))
        elif name not in KNOWN_FIELDS:
            is_image = name.partition("[")[0] in ("images", "image_url")  # JSON's names of it
            hint = nearest("image" if is_image else name, KNOWN_FIELDS)
            raise OptionUnknown(f'unknown field "{shown}". {hint}', param=shown)
        elif name in texts or (name == "mask" and mask is not None):
            raise OptionInvalid(f"{shown} is given more than once", param=shown)
        elif name == "mask":
            mask = await _file(name, value)
        elif isinstance(value, UploadFile):
            raise OptionInvalid(f"{name} must be a text field, not a file", param=name)
        else:
            texts[name] = value
    return Form(texts, images, mask)


def _is_absent(value: str | UploadFile) -> bool:
    """Recognize an empty field, and the file of a browser in which none was chosen."""
    if isinstance(value, str):
        return value in ABSENT
    return not value.filename and not value.size


async def _file(name: str, value: str | UploadFile) -> bytes:
    return _refuse_text(name) if isinstance(value, str) else await value.read()


def _refuse_text(name: str) -> NoReturn:
    name = name.removesuffix("[]")
    error = MaskInvalid if name == "mask" else ImageMissing
    raise error(
        f"{name} came as text and must be a file: give its part a filename, as curl -F "
        f"{name}=@FILE does; a data URL goes into a JSON body"
    )


class _Parser(MultiPartParser):
    """Refuses what Starlette's parser lets pass: a text that is not UTF-8 would be read as
    latin-1, and a body that was cut off as a whole one."""

    spool_max_size = 2**31  # the body's own limit holds: no temporary file, no blocking write
    is_whole = False

    def on_part_data(self, data: bytes, start: int, end: int) -> None:
        part = self._current_part
        if part.file is None and len(part.data) + end - start > self.max_part_size:
            if part.field_name in (*IMAGE_FIELDS, "mask"):
                _refuse_text(part.field_name)
            shown = part.field_name[:MAX_SHOWN]
            raise OptionInvalid(f"{shown} has more than {MAX_FIELD_BYTES:,} bytes", param=shown)
        super().on_part_data(data, start, end)

    def on_part_end(self) -> None:
        part = self._current_part
        if part.file is None and part.field_name not in (*IMAGE_FIELDS, "mask"):
            try:
                part.data.decode()
            except UnicodeDecodeError as error:
                shown = part.field_name[:MAX_SHOWN]
                raise OptionInvalid(
                    f"{shown} is not UTF-8 (byte {part.data[error.start]:#04x} at "
                    f"{error.start}): send the form in UTF-8",
                    param=shown,
                ) from None
        super().on_part_end()

    def on_end(self) -> None:
        self.is_whole = True


async def _without_preamble(
    chunks: AsyncGenerator[bytes, None], boundary: bytes
) -> AsyncGenerator[bytes, None]:
    """Leave out what MIME lets stand before the first boundary, and the parser does not."""
    head, at, delimiter = b"\r\n", -1, b"\r\n--" + boundary
    async for chunk in chunks:
        head += chunk
        at = head.find(delimiter, 0, MAX_PREAMBLE_BYTES + len(delimiter))
        if at >= 0:
            yield head[at + 2 :]
            break
        if len(head) > MAX_PREAMBLE_BYTES:
            break
    if at < 0:
        shown = boundary.decode("latin-1")[:MAX_SHOWN]
        raise OptionInvalid(f'the multipart body does not hold its boundary "{shown}"')
    async for chunk in chunks:
        yield chunk
