"""The options of an edit, each written here and nowhere else.

A field of `EditOptions` is by that a flag of `rayedit edit` and of `rayedit batch`, a key of
`options` in YAML, a form and a JSON field, in OpenAPI, a column of manifests and of the ledger, and
a part of the fingerprint.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator

from engine.errors import InternalError
from engine.fields import validate
from engine.size import checked_size, parse_size

Determinism = Literal["seeded", "bucket", "strict"]
AutoGuidance = Literal["off", "on", "fast"]
Resize = Literal["fit", "crop", "pad", "stretch"]
Detail = Literal["model", "source"]
Preserve = Literal["off", "auto"]
Measures = Literal["none", "fast", "full"]
Repair = Literal["none", "sharpen", "colour", "both"]
Quality = Literal["low", "medium", "high", "auto"]
Background = Literal["auto", "opaque", "transparent"]
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
    "edm_euler",
]

# OpenAI's word for how much work an edit is worth -> the share of the model's own steps.
STEPS_OF_QUALITY: dict[Quality, float] = {"low": 0.5, "medium": 1.0, "high": 1.5, "auto": 1.0}
MAX_STEPS = 100
MAX_IMAGES = 10  # OpenAI's; they are made one batch after the other where they do not fit together
MAX_SEED = 2**32 - 1  # torch's CPU generator reads the low 32 bits of a seed
MAX_INSTRUCTION_CHARACTERS = 2_000  # CLIP reads about 300; leaves room for longer encoders
MAX_SLOPE = 2_040  # |dx| + |dy| of Sobel's 3 x 3 filter over 8 bits


class EditOptions(BaseModel):
    """What a caller may set for one edit; `None` means the model's own default."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    seed: Annotated[
        Annotated[int, Field(ge=0, le=MAX_SEED)] | None,
        Field(description="of the noise; drawn online, from job seed and id in a job"),
    ] = None
    num_inference_steps: Annotated[
        Annotated[int, Field(ge=1, le=MAX_STEPS)] | None, Field(description="denoising steps")
    ] = None
    quality: Annotated[
        Quality | None,
        Field(
            description="steps by the model's own: low half of them, medium and auto as many, high "
            "half as many more; num_inference_steps goes before it"
        ),
    ] = None
    guidance_scale: Annotated[
        Annotated[float, Field(ge=0, le=20)] | None,
        Field(description="how strongly to follow the instruction"),
    ] = None
    image_guidance_scale: Annotated[
        Annotated[float, Field(ge=0, le=5)] | None,
        Field(description="how closely to keep to the source image"),
    ] = None
    auto_guidance: Annotated[
        AutoGuidance | None,
        Field(
            description="on: judge the result, and make it again with other scales where it is too "
            "weak or too much, three times in all; fast: begin with scales of 1, a third of the "
            "work, and go on only where the model's judge doubts the result"
        ),
    ] = None
    true_cfg_scale: Annotated[
        Annotated[float, Field(ge=1, le=20)] | None,
        Field(description="how strongly to follow the instruction and not the negative prompt"),
    ] = None
    strength: Annotated[
        Annotated[float, Field(gt=0, le=1)] | None,
        Field(description="how far from the source image to begin; 1: from noise"),
    ] = None
    controlnet_conditioning_scale: Annotated[
        Annotated[float, Field(ge=0, le=2)] | None,
        Field(description="how strongly the control image, or the edges, hold the picture"),
    ] = None
    control_guidance_start: Annotated[
        Annotated[float, Field(ge=0, le=1)] | None,
        Field(description="the share of the steps after which the control image begins to act"),
    ] = None
    control_guidance_end: Annotated[
        Annotated[float, Field(ge=0, le=1)] | None,
        Field(description="the share of the steps after which the control image acts no more"),
    ] = None
    canny_low_threshold: Annotated[
        Annotated[int, Field(ge=0, le=MAX_SLOPE)] | None,
        Field(description="the slope down to which an edge of the source image goes on"),
    ] = None
    canny_high_threshold: Annotated[
        Annotated[int, Field(ge=0, le=MAX_SLOPE)] | None,
        Field(description="the slope above which an edge of the source image begins"),
    ] = None
    negative_prompt: Annotated[
        Annotated[str, Field(max_length=MAX_INSTRUCTION_CHARACTERS)] | None,
        Field(description="what to keep away from"),
    ] = None
    scheduler: Annotated[
        Scheduler | None, Field(description="the sampler; default: the model's own")
    ] = None
    num_images: Annotated[
        int, Field(ge=1, le=MAX_IMAGES, description="images, each from a seed of its own")
    ] = 1
    size: Annotated[
        str | None, Field(description="WIDTHxHEIGHT in px, or auto: from the model's resolution")
    ] = None
    resize: Annotated[
        Resize,
        Field(
            description="fit: about the model's resolution, cropped to its multiple; crop: a "
            "centred square; pad: the whole picture in the square, cut out again; stretch: the "
            "whole picture on the canvas of diffusers' pipeline, whatever becomes of its aspect"
        ),
    ] = "fit"
    restore_size: Annotated[
        bool | None, Field(description="return the source image's own size")
    ] = None
    detail: Annotated[
        Detail | None,
        Field(
            description="model: the picture as the model made it; source: with the fine detail of "
            "the source image where the edit left it"
        ),
    ] = None
    preserve: Annotated[
        Preserve | None,
        Field(description="auto: what the edit did not change is the source image, byte for byte"),
    ] = None
    return_mask: Annotated[
        bool, Field(description="return where the edit changed the image too, as a mask")
    ] = False
    measures: Annotated[
        Measures | None,
        Field(
            description="fast: sharpness, cast, structure and change of the result beside its "
            "source, in edit_report, and warnings; full: how far its structure moved too"
        ),
    ] = None
    repair: Annotated[
        Repair | None,
        Field(
            description="sharpen: give a result that the model blurred the sharpness of its "
            "source; colour: take a colour cast off; a result that needs neither stays as it is"
        ),
    ] = None
    background: Annotated[
        Background | None,
        Field(
            description="transparent: what is transparent in the source image is so in the result "
            "too, as PNG or WebP; opaque, auto: it is laid over white"
        ),
    ] = None
    style: Annotated[
        Annotated[str, Field(min_length=1, max_length=64)] | None,
        Field(
            description="a named preset (`rayedit styles`): what the edit does not say itself, the "
            "style says"
        ),
    ] = None
    lora_scale: Annotated[
        Annotated[float, Field(ge=0, le=2)] | None,
        Field(description="how strongly the LoRA of its style acts; 1 where it has one"),
    ] = None
    strict_language: Annotated[
        bool, Field(description="refuse a script the model does not know, instead of a warning")
    ] = False
    strict_instruction: Annotated[
        bool | None,
        Field(
            description="refuse an edit the model does not know, instead of doing the nearest that "
            "it knows with a warning"
        ),
    ] = None

    @field_validator("background")
    @classmethod
    def _auto_is_none(cls, value: Background | None) -> Background | None:
        return None if value == "auto" else value

    @field_validator("size")
    @classmethod
    def _size_is_width_by_height(cls, value: str | None) -> str | None:
        return None if value is None or value == "auto" else checked_size(value)

    @classmethod
    def parse(cls, values: Mapping[str, Any], *, strict: bool = True) -> Self:
        """Raises `OptionError`. `strict=False` reads numbers from text (forms, CSV)."""
        return validate(cls, values, strict=strict)

    @property
    def size_px(self) -> tuple[int, int] | None:
        """(width, height) that the caller asked for."""
        return parse_size(self.size) if self.size else None


class ResolvedOptions(EditOptions):
    """The options of an edit after `ModelSpec.resolve`: seed and steps are always there, and so is
    every scale that the model has; `None` stays where the model has no such option."""

    seed: Annotated[int, Field(ge=0, le=MAX_SEED)]
    num_inference_steps: Annotated[int, Field(ge=1, le=MAX_STEPS)]
    auto_guidance: AutoGuidance = "off"
    restore_size: bool = False
    detail: Detail = "model"
    preserve: Preserve = "off"
    measures: Measures = "none"
    repair: Repair = "none"
    background: Background = "opaque"

    @property
    def keeps_source(self) -> bool:
        """True where pixels of the source go into the result, or tell where it was edited."""
        return self.detail == "source" or self.preserve == "auto" or self.return_mask

    @property
    def compares_source(self) -> bool:
        """True where the result is compared with its source, whatever becomes of it."""
        measured = self.measures != "none" or self.repair != "none"
        return self.keeps_source or measured or self.auto_guidance != "off"

    def scale(self, name: str) -> float:
        """Return the number of option `name`; raises `InternalError` where it is not resolved."""
        value = getattr(self, name, None)
        if not isinstance(value, int | float):
            raise InternalError(f"option {name} is not resolved: its model's spec has no default")
        return value
