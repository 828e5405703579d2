"""The records that cross every boundary: a request goes in, an outcome comes out."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from engine.adapter import Adapter
from engine.error_codes import error_class
from engine.errors import EngineError, InternalError
from engine.options import ResolvedOptions

Repaired = Literal["sharpened", "recoloured"]  # what `repair` did to a picture

# The codes of what was softened, while a source was decoded, an edit made or a result finished.
WARNINGS = {
    "alpha_flattened": "transparent pixels were laid over white; `background=transparent` gives "
    "them back in a PNG or WebP",
    "cmyk_converted": "CMYK without a profile was converted by the plain formula",
    "control_empty": "the control image is black, or the source has no edge: the text alone "
    "decides; lower the `canny` thresholds",
    "edit_is_global": "`preserve` found nothing to keep: the edit changed nearly everything",
    "first_frame_only": "of several frames or pages the first was taken",
    "following_unmeasured": "`auto_guidance` could not judge whether the result is what was asked "
    "for, only that something changed and that the source's structure is there",
    "icc_ignored": "the colour profile is broken or not for such pixels; they were taken as sRGB",
    "image_damaged": "the file is damaged; its decoder filled in, or what was lost is no pixel",
    "instruction_unknown": "the model does not know the edit that is asked for, and did the "
    "nearest that it knows: `understood_as`",
    "language_unsupported": "the instruction is in a script that the model was not trained on",
    "result_blank": "the result shows next to nothing",
    "result_blurry": "the result is less sharp than its source, and nothing in it is not: "
    "`repair=sharpen` mends that",
    "result_cast": "a colour lies over what was not edited: `repair=colour` mends that",
    "result_recoloured": "`repair` took a colour cast off the result",
    "result_sharpened": "`repair` gave the result the sharpness of its source",
    "result_unchanged": "the edit changed next to nothing: more `guidance_scale`, or less "
    "`image_guidance_scale`",
    "smaller_than_source": "the result is smaller than its source: `restore_size` with "
    "`detail=source` gives it the source's size and detail",
    "source_backlit": "the middle of the source is far darker than its sides",
    "source_blurry": "nothing in the source is sharp",
    "source_dark": "the source is underexposed: even its lightest parts are dark",
    "source_small": "the shorter side of the source is less than half of the model's resolution",
    "structure_lost": "the result has hardly an edge where its source has one",
}


def digest_of(pixels: np.ndarray) -> str:
    """Digest (H, W, 3) uint8, as `EditRequest.digest` is one."""
    return hashlib.blake2b(np.ascontiguousarray(pixels).data, digest_size=16).hexdigest()


@dataclass(frozen=True, slots=True)
class EditRequest:
    """One edit, ready for the model."""

    id: str
    pixels: np.ndarray  # (H, W, 3) uint8 RGB; both sides are multiples of the model's `multiple`
    instruction: str
    options: ResolvedOptions
    timeout_s: float | None = None  # the most urgent goes first, what is late is given up
    partial_images: int = 0  # 0 to 3 previews, while it is being denoised
    digest: str = ""  # of the pixels, so that equal ones are encoded once; empty: not known
    references: tuple[np.ndarray, ...] = ()  # further sources, (h, w, 3) uint8; sides as of pixels
    mask: np.ndarray | None = None  # (H, W) uint8; 0: stays the source's, 255: may change
    adapter: Adapter | None = None  # the LoRA that it is made with
    is_translated: bool = False  # the instruction is a translator's

    @property
    def keeps_source(self) -> bool:
        """True where pixels of the source go into the result: by mask or options."""
        return self.mask is not None or self.options.keeps_source

    @property
    def compares_source(self) -> bool:
        """True where the result is compared with its source: by mask or options."""
        return self.mask is not None or self.options.compares_source


@dataclass(frozen=True, slots=True)
class Guided:
    """The scales that `auto_guidance` chose: a bare edit with them is the same picture."""

    tries: int  # edits that were made, 1 to 3
    guidance_scale: float
    image_guidance_scale: float
    # how sure the model's judge is that it is the edit that was asked for, 0 to 1; None where none
    # can tell
    following: float | None
    keeping: float  # how much of the source's structure is in its place, 0 to 1


@dataclass(frozen=True, slots=True)
class EditResult:
    """The images of one edit."""

    id: str
    images: list[np.ndarray]  # `num_images` arrays (H, W, 3) uint8 RGB at model size
    seeds: list[int]  # image k is made from `seeds[k]`
    warnings: tuple[str, ...] = ()  # codes of what was softened
    batch_size: int = 1  # the most samples that shared a model call with it
    model_s: float = 0.0  # s from its first model call to its last
    # the edit that it was taken for, where the model does not know the one that was asked for
    understood_as: str | None = None
    # (H, W, 3) uint8 RGB: the source after the autoencoder alone, where it is compared with that
    reconstructed: np.ndarray | None = None
    instruction_used: str | None = None  # what the model read, where it was translated
    guided: Guided | None = None  # where its guidance set itself
    engine_words: tuple[str, ...] = ()  # of `engine.recipe`: the model that made them


@dataclass(frozen=True, slots=True)
class Measured:
    """A finished picture beside what an edit of nothing would have given: the source after the
    autoencoder, or the source itself where its detail or its pixels are kept."""

    # of nine tenths of the tiles in which the other is sharp, at most; None where that is nowhere
    sharpness_ratio: float | None
    entropy: float  # of its brightness, in bits: 0 is one grey, 8 all of them alike
    colour_cast: float  # of a* and b*, over pixels that were not edited; 0 where none can be told
    clipped: float  # share of its pixels that lost their detail to white or black, 0 to 1
    ssim: float  # structural similarity of brightness, 1: the same
    edge_correlation: float  # of their edges, 1: all in their place
    change: float  # root mean square of the difference, in levels of 0..255
    # with `measures: full`: how far its structure moved, as a share of the longest side; None where
    # nothing of it can be followed
    displacement: float | None = None


@dataclass(frozen=True, slots=True)
class EditReport:
    """What an edit did to its source, as measured on the canvas."""

    changed_share: float  # how much of the picture was edited, 0 to 1
    outside_change: float  # how far the rest is from the source, mean in levels of 0..255
    measured: Measured | None = None  # where `measures` asks for it
    repaired: tuple[Repaired, ...] = ()  # what `repair` did
    guided: Guided | None = None  # what `auto_guidance` did


@dataclass(frozen=True, slots=True)
class Look:
    """The colours and the texture of a picture: see `engine.look`."""

    lab: tuple[float, ...]  # mean of CIE L*a*b* (D65)
    border_lab: tuple[float, ...]  # the same of the band along the sides
    texture: tuple[float, ...]  # shares of the 10 local binary patterns


@dataclass(frozen=True, slots=True)
class PairScores:
    """How well a picture and its edit go together, as a pair to learn from."""

    change: float  # root mean square of their difference, in levels of 0..255
    edge_correlation: float  # of their edges, 1: all in their place
    # cosines by a CLIP folder, from -1 to 1 (Brooks et al. 2023, section 3.1.2)
    clip_sim_0: float | None = None  # the picture and its caption
    clip_sim_1: float | None = None  # the edited picture and the edited caption
    clip_sim_dir: float | None = None  # the change between the pictures and between the captions
    clip_sim_image: float | None = None  # the two pictures
    # how sure a judge is that it is what the instruction says, 0 to 1; None where it cannot tell
    following: float | None = None


@dataclass(frozen=True, slots=True)
class EditFailure:
    """The reason that a request has no result."""

    id: str
    code: str  # one of `engine.errors`
    message: str  # one line: what was wrong, the value, the bound, what to do
    retryable: bool = False  # sent again, it may succeed
    status: int = 500  # of HTTP
    param: str | None = field(default=None)  # the option or field that was wrong

    @classmethod
    def of(cls, id: str, error: BaseException) -> EditFailure:
        """Make the failure that `error` means for request `id`; a foreign error is internal."""
        if not isinstance(error, EngineError):
            text = f"{type(error).__name__}: {error}"
            error = InternalError(text if len(text) <= 500 else text[:497] + "...")
        return cls(id, error.code, error.message, error.retryable, error.status, error.param)

    def error(self) -> EngineError:
        """Return the exception that this failure tells of, to be raised."""
        return error_class(self.code)(self.message, param=self.param)


EditOutcome = EditResult | EditFailure
