"""The JSON body of an edit: OpenAI's fields and ours, the same over HTTP and in Batch JSONL.

Fields, types and limits follow OpenAI's `CreateImageEditRequest` and `EditImageBodyJsonParam`.
A field that rayedit cannot honour is refused by name, never ignored.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, create_model

from engine.edit import EditFailure
from engine.errors import (
    ImageMissing,
    ImageNotFound,
    ImageSourceRefused,
    InstructionError,
    OptionInvalid,
)
from engine.fields import MAX_SHOWN, validate
from engine.options import MAX_IMAGES, EditOptions
from engine.text import clean_instruction, is_blank

OutputFormat = Literal["png", "jpeg", "webp"]

# What OpenAI accepts and this engine has one answer for: field -> the values that mean that answer.
NEUTRAL: dict[str, tuple[object, ...]] = {
    "moderation": (None, "auto", "low"),  # nothing is moderated here
    "input_fidelity": (None, "low", "high"),  # see `EditBody.options`
    "response_format": (None, "b64_json"),
    "stream": (None, False),
    "partial_images": (None, 0),
}
OF_HTTP = frozenset({"stream", "partial_images", "response_format"})  # what that door takes itself
_OPTION_NAMES = tuple(name for name in EditOptions.model_fields if name != "num_images")
NO_FILES = (
    "it names an uploaded file, and files are kept only where files_uri names a place for them"
)
# The engine's word -> OpenAI's, where they differ.
OPENAI_NAMES = {"instruction": "prompt", "num_images": "n"}


class FileId(str):
    """The id of an uploaded file, where a URL could stand."""


_FILE_ID = re.compile(r"file-[0-9A-Za-z_-]{1,64}")  # which no path is


class ImageReference(BaseModel):
    """One entry of `images` in a JSON body."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    image_url: str | None = None
    file_id: str | None = None


class _OpenAIFields(BaseModel):
    """Hold what OpenAI's body has beside the options of an edit."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    prompt: str | None = None
    model: str | None = None
    images: Annotated[list[ImageReference], Field(max_length=16)] | None = None
    n: Annotated[int, Field(ge=1, le=MAX_IMAGES)] | None = None
    output_format: Annotated[
        OutputFormat | None, BeforeValidator(lambda name: "jpeg" if name == "jpg" else name)
    ] = None
    output_compression: Annotated[int, Field(ge=0, le=100)] | None = None
    user: str | None = None
    safety_identifier: str | None = None
    moderation: str | None = None
    input_fidelity: str | None = None
    response_format: Literal["b64_json", "url"] | None = None
    mask: ImageReference | None = None
    stream: bool | None = None
    partial_images: Annotated[int, Field(ge=0, le=3)] | None = None


# A field for each option, sent as `extra_body` by the OpenAI SDK; `EditOptions` checks its value.
_UNCHECKED: dict[str, Any] = dict.fromkeys(_OPTION_NAMES, (Any, None))
_OptionFields: Any = create_model("_OptionFields", **_UNCHECKED)


class EditBody(_OptionFields, _OpenAIFields):
    """Everything of an edit but the bytes of its source image."""

    @classmethod
    def parse(cls, values: Mapping[str, Any], *, strict: bool = True, http: bool = False) -> Self:
        """Raises `OptionError`. `strict=False` reads numbers from text, as a form sends them;
        `http`: the caller honours the fields of `OF_HTTP`."""
        body = validate(cls, values, strict=strict)
        for name, accepted in NEUTRAL.items():
            if getattr(body, name) not in accepted and not (http and name in OF_HTTP):
                shown = ", ".join(repr(value) for value in accepted if value is not None)
                wish = f"leave it out or send {shown}" if shown else "leave it out"
                raise OptionInvalid(f"this server does not support {name}: {wish}", param=name)
        return body

    def options(self, *, strict: bool = True) -> EditOptions:
        """The options that were given; raises `OptionError`.

        `input_fidelity: high` asks for the fine detail of the source, unless `detail` says else.
        """
        given = {name: getattr(self, name) for name in _OPTION_NAMES}
        values = {name: value for name, value in given.items() if value is not None}
        if self.input_fidelity == "high":
            values.setdefault("detail", "source")
        if self.n is not None:
            values["num_images"] = self.n
        return EditOptions.parse(values, strict=strict)

    def instruction(self) -> str:
        """The cleaned instruction; raises `InstructionError` naming OpenAI's field.

        Beside a style it may be empty: the style says whether it can be.
        """
        if self.style is not None and is_blank(self.prompt or ""):
            return ""
        try:
            return clean_instruction(self.prompt if self.prompt is not None else "")
        except InstructionError as error:
            raise type(error)(error.message, param="prompt") from None

    def image_urls(self, *, file_ids: bool = False) -> list[str]:
        """The URL of each source image, one or more, and of an uploaded one its `FileId`; raises
        `ImageError`, without `file_ids` for that too."""
        if not self.images:
            raise ImageMissing(
                'images is missing: send [{"image_url": "data:..."}]', param="images"
            )
        return [_url_of(image, f"images[{k}]", file_ids) for k, image in enumerate(self.images)]

    def mask_url(self, *, file_ids: bool = False) -> str | None:
        """The URL of the mask, if there is one; as `image_urls`."""
        return None if self.mask is None else _url_of(self.mask, "mask", file_ids)


def check_background(options: EditOptions, format: OutputFormat) -> None:
    """Refuse a transparent picture as JPEG; raises `OptionInvalid`."""
    if options.background == "transparent" and format == "jpeg":
        raise OptionInvalid(
            "background: a JPEG is opaque; ask for png or webp, or leave transparent out",
            param="background",
        )


def _url_of(image: ImageReference, field: str, file_ids: bool) -> str:
    if image.file_id is not None:
        return _file_id_of(image, image.file_id, f"{field}.file_id", file_ids)
    if image.image_url is None:
        raise ImageMissing(f"{field}.image_url is missing", param=f"{field}.image_url")
    return image.image_url


def _file_id_of(image: ImageReference, id: str, field: str, file_ids: bool) -> FileId:
    if not file_ids:
        raise ImageSourceRefused(
            f"{field}: {NO_FILES}: send image_url with a data URL", param=field
        )
    if image.image_url is not None:
        raise ImageSourceRefused(f"{field}: image_url is given too; send one of them", param=field)
    if not _FILE_ID.fullmatch(id):
        raise no_such_file(id, field)
    return FileId(id)


def no_such_file(id: str, field: str) -> ImageNotFound:
    """Make the error of an image that names a file which is not there."""
    return ImageNotFound(
        f'{field}: there is no file "{id[:MAX_SHOWN]}", or none of this API key: upload it with '
        'purpose "vision"',
        param=field,
    )


def error_body(failure: EditFailure) -> dict[str, dict[str, str | None]]:
    """`{"error": {message, type, param, code}}`: all four keys, always."""
    param = failure.param
    return {
        "error": {
            "message": _printable(failure.message),
            "type": "invalid_request_error" if failure.status < 500 else "server_error",
            "param": _printable(OPENAI_NAMES.get(param, param)) if param else None,
            "code": failure.code,
        }
    }


def _printable(text: str) -> str:
    """`text` that UTF-8 can carry: a lone surrogate of a client's JSON becomes a question mark."""
    return text.encode("utf-8", "replace").decode()
