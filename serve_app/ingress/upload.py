"""The body of `POST /v1/files`: a file, what it is for, how long it is kept."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Literal, NamedTuple

from fastapi import Request
from pydantic import BaseModel, ConfigDict, Field
from starlette.datastructures import UploadFile

from engine.errors import ImageError, OptionInvalid, OptionUnknown
from engine.fields import MAX_SHOWN, nearest, validate
from engine.formats import taken_format
from engine.images import MAX_BYTES
from serve_app.errors import BodyTooLarge, MediaTypeUnsupported
from serve_app.ingress.form import read_fields
from serve_app.ingress.parsing import body_kind, bounded
from storage.file_store import Purpose

MAX_FILE_BYTES = 200 * 2**20  # OpenAI's for lines of a batch
FORM_BYTES = 64 * 2**10  # of a form beside its file
BATCH_LIFETIME_S = 30 * 86_400  # OpenAI's, of lines that name no other
MAX_NAME_CHARACTERS = 512
IMAGES: tuple[Purpose, ...] = ("vision", "user_data")
PURPOSES: tuple[Purpose, ...] = ("batch", *IMAGES)
FIELDS = ("file", "purpose", "expires_after[anchor]", "expires_after[seconds]")


class ExpiresAfter(BaseModel):
    """OpenAI's `expires_after`: how long a file is kept."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    anchor: Literal["created_at"]
    seconds: int = Field(ge=3600, le=2_592_000, description="an hour to 30 days")


class _Lifetime(BaseModel):
    expires_after: ExpiresAfter


class Upload(NamedTuple):
    """A file as it is to be kept."""

    data: bytes
    filename: str
    purpose: Purpose
    lifetime_s: int | None


async def read_upload(request: Request, accept: Collection[str] = ()) -> Upload:
    """Read the form of an upload; `accept`: formats beside JPEG, PNG and WebP. Raises
    `RequestError`."""
    if body_kind(request) != "multipart/form-data":
        raise MediaTypeUnsupported("send multipart/form-data, with the fields file and purpose")
    limit = MAX_FILE_BYTES + FORM_BYTES
    fields = _fields(await read_fields(request, bounded(request, limit)))
    purpose, file = fields.get("purpose"), fields.get("file")
    if purpose not in PURPOSES:
        shown = f'got "{str(purpose)[:MAX_SHOWN]}"' if purpose else "it is missing"
        raise OptionInvalid(
            f"purpose must be batch, of the lines of a batch, or {' or '.join(IMAGES)}, of an "
            f"image; {shown}",
            param="purpose",
        )
    if not isinstance(file, UploadFile):
        raise OptionInvalid("file is missing: send it as a file, with a filename", param="file")
    data = await file.read()
    _check(data, purpose, accept)
    name = (file.filename or "file")[:MAX_NAME_CHARACTERS]
    return Upload(data, name, purpose, _lifetime_s(fields, purpose))


def _fields(sent: list[tuple[str, str | UploadFile]]) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    for name, value in sent:
        shown = name[:MAX_SHOWN]
        if name not in FIELDS:
            raise OptionUnknown(f'unknown field "{shown}". {nearest(shown, FIELDS)}', param=shown)
        if name in fields:
            raise OptionInvalid(f"{shown} is given more than once", param=shown)
        fields[name] = value
    return fields


def _check(data: bytes, purpose: Purpose, accept: Collection[str]) -> None:
    """Refuse what can be told to be wrong by its size and its first bytes."""
    if not data:
        raise OptionInvalid("file is empty", param="file")
    most = MAX_BYTES if purpose in IMAGES else MAX_FILE_BYTES
    if len(data) > most:
        raise BodyTooLarge(
            f"the file has {len(data):,} bytes; of purpose {purpose} at most {most:,} are taken",
            param="file",
        )
    if purpose in IMAGES:
        try:
            taken_format(data, accept)
        except ImageError as error:
            raise type(error)(error.message, param="file") from None


def _lifetime_s(fields: dict[str, Any], purpose: Purpose) -> int | None:
    given = {
        name.removeprefix("expires_after[").removesuffix("]"): value
        for name, value in fields.items()
        if name.startswith("expires_after")
    }
    if given:
        told = validate(_Lifetime, {"expires_after": given}, strict=False)
        return told.expires_after.seconds
    return BATCH_LIFETIME_S if purpose == "batch" else None
