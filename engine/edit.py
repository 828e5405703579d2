"""The records that cross every boundary: a request goes in, an outcome comes out."""

from __future__ import annotations

import difflib
import re
import reprlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, Self, TypeVar

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from engine.errors import (
    EngineError,
    InternalError,
    OptionError,
    OptionInvalid,
    OptionUnknown,
)

M = TypeVar("M", bound=BaseModel)

Determinism = Literal["seeded", "bucket", "strict"]
Resize = Literal["fit", "crop", "pad"]
Scheduler = Literal[
    "ddim",
    "euler",
    "euler_ancestral",
    "pndm",
    "heun",
    "dpmpp_2m",
    "dpmpp_2m_karras",
    "unipc",
    "flow_match_euler",
]

MAX_SEED = 2**32 - 1  # torch's CPU generator reads the low 32 bits of a seed
MAX_SHOWN = 80  # characters that a message repeats of what was sent
MAX_INSTRUCTION_CHARACTERS = 2_000  # CLIP reads about 300; leaves room for longer encoders
_SIZE = re.compile(r"([1-9]\d{0,4})x([1-9]\d{0,4})")


class EditOptions(BaseModel):
    """What a caller may set for one edit; `None` means the model's own default."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    seed: Annotated[
        Annotated[int, Field(ge=0, le=MAX_SEED)] | None,
        Field(description="of the noise; drawn online, from job seed and id in a job"),
    ] = None
    num_inference_steps: Annotated[
        Annotated[int, Field(ge=1, le=100)] | None, Field(description="denoising steps")
    ] = None
    guidance_scale: Annotated[
        Annotated[float, Field(ge=0, le=20)] | None,
        Field(description="how strongly to follow the instruction"),
    ] = None
    image_guidance_scale: Annotated[
        Annotated[float, Field(ge=0, le=5)] | None,
        Field(description="how closely to keep to the source image"),
    ] = None
    negative_prompt: Annotated[
        str, Field(max_length=MAX_INSTRUCTION_CHARACTERS, description="what to keep away from")
    ] = ""
    scheduler: Annotated[
        Scheduler | None, Field(description="the sampler; default: the model's own")
    ] = None
    num_images: Annotated[
        int, Field(ge=1, le=4, description="images, each from a seed of its own")
    ] = 1
    size: Annotated[
        str | None, Field(description="WIDTHxHEIGHT in px, or auto: from the model's resolution")
    ] = None
    resize: Annotated[
        Resize,
        Field(
            description="fit: about the model's resolution, cropped to its multiple; crop: a "
            "centred square; pad: the whole picture in the square, cut out again"
        ),
    ] = "fit"
    restore_size: Annotated[bool, Field(description="return the source image's own size")] = False
    strict_language: Annotated[
        bool, Field(description="refuse a script the model does not know, instead of a warning")
    ] = False

    @field_validator("size")
    @classmethod
    def _size_is_width_by_height(cls, value: str | None) -> str | None:
        if value is None or value == "auto":
            return None
        if not _SIZE.fullmatch(value):
            raise ValueError('must be "auto" or WIDTHxHEIGHT in pixels, such as "512x512"')
        return value

    @classmethod
    def parse(cls, values: Mapping[str, Any], *, strict: bool = True) -> Self:
        """Raises `OptionError`. `strict=False` reads numbers from text (forms, CSV)."""
        return validate(cls, values, strict=strict)

    @property
    def size_px(self) -> tuple[int, int] | None:
        """(width, height) that the caller asked for."""
        return parse_size(self.size) if self.size else None


def validate(model: type[M], values: Mapping[str, Any], *, strict: bool = True) -> M:
    """`values` as a `model`; raises `OptionError` with the first fault in one sentence."""
    try:
        return model.model_validate(dict(values), strict=strict)
    except ValidationError as error:
        raise _option_error(error.errors(), model) from None


def nearest(name: str, known: Iterable[str]) -> str:
    """'Did you mean "x"?' for the nearest of `known`, or the list of them."""
    names = sorted(known)
    close = difflib.get_close_matches(name[:MAX_SHOWN], names, n=1, cutoff=0.6)
    return f'Did you mean "{close[0]}"?' if close else f"Known: {', '.join(names)}."


def _option_error(errors: Sequence[Mapping[str, Any]], model: type[BaseModel]) -> OptionError:
    """The first of pydantic's `errors()` of a model as one sentence."""
    first = errors[0]
    name = ".".join(str(part) for part in first["loc"])[:MAX_SHOWN] or "body"
    if first["type"] == "extra_forbidden":
        *sections, field = map(str, first["loc"])
        for section in sections:
            inner = getattr(model.model_fields.get(section), "annotation", None)
            model = inner if isinstance(inner, type) and issubclass(inner, BaseModel) else model
        return OptionUnknown(
            f'unknown field "{name}". {nearest(field, model.model_fields)}', param=name
        )
    shown = reprlib.repr(first.get("input"))
    shown = shown if len(shown) <= MAX_SHOWN else shown[: MAX_SHOWN - 3] + "..."
    reason = str(first["msg"]).replace("Input should be", "must be").removeprefix("Value error, ")
    return OptionInvalid(f"{name}: {reason}; got {shown}", param=name)


def parse_size(text: str) -> tuple[int, int]:
    """ "512x384" -> (512, 384): width, height in pixels."""
    match = _SIZE.fullmatch(text)
    if match is None:
        raise OptionInvalid(f"size must be WIDTHxHEIGHT; got {text!r}", param="size")
    return int(match[1]), int(match[2])


@dataclass(frozen=True, slots=True)
class EditRequest:
    """One edit, ready for the model.

    `pixels`: (H, W, 3) uint8 RGB at model size (sides are multiples of the model's `multiple`).
    `options`: resolved, so no field of it is `None` but `size` and `scheduler`.
    `timeout_s`: how long its caller waits; the most urgent goes first, what is late is given up.
    `digest`: of the pixels, so that equal ones are encoded once; empty: not known.
    `partial_images`: 0-3, the previews that its caller wants while it is being denoised.
    """

    id: str
    pixels: np.ndarray
    instruction: str
    options: EditOptions
    timeout_s: float | None = None
    partial_images: int = 0
    digest: str = ""


@dataclass(frozen=True, slots=True)
class EditResult:
    """`images`: `num_images` arrays (H, W, 3) uint8 RGB at model size, image k from `seeds[k]`.

    `batch_size`: the most samples that shared a model call with it; `model_s`: seconds from its
    first model call to its last; `warnings`: what was softened, as codes.
    """

    id: str
    images: list[np.ndarray]
    seeds: list[int]
    warnings: tuple[str, ...] = ()
    batch_size: int = 1
    model_s: float = 0.0


@dataclass(frozen=True, slots=True)
class EditFailure:
    """Why a request has no result; `code` is one of `engine.errors`."""

    id: str
    code: str
    message: str
    retryable: bool = False
    status: int = 500
    param: str | None = field(default=None)

    @classmethod
    def of(cls, id: str, error: BaseException) -> EditFailure:
        """The failure that `error` means for request `id`; a foreign error is internal."""
        if not isinstance(error, EngineError):
            text = f"{type(error).__name__}: {error}"
            error = InternalError(text if len(text) <= 500 else text[:497] + "...")
        return cls(id, error.code, error.message, error.retryable, error.status, error.param)


EditOutcome = EditResult | EditFailure
