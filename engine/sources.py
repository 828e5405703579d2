"""Where a source image comes from."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from urllib.parse import unquote

import numpy as np
from PIL import Image

from engine.control import find_edges, given_control
from engine.edit import EditRequest, digest_of
from engine.errors import (
    ImageError,
    ImageSourceRefused,
    ImageTooLarge,
    ImageUnreadable,
    MaskInvalid,
)
from engine.geometry import Geometry, plan_geometry, reference_geometry, to_canvas
from engine.images import MAX_BYTES, decode
from engine.masks import decode_mask, mask_to_canvas
from engine.options import Background, Detail, Measures, Preserve, Repair, ResolvedOptions
from engine.picture import size_of
from engine.quality.poor_source import find_poor
from engine.recipe import edit_words
from engine.spec import ModelSpec
from engine.styles import INSTRUCTION

_SPACES = b" \t\r\n\f\v"  # MIME breaks base64 into lines of 76


@dataclass(frozen=True, slots=True)
class Source:
    """The files that an edit starts from."""

    image: bytes
    mask: bytes | None = None  # a PNG as `masks.decode_mask` reads it
    references: tuple[bytes, ...] = ()  # further images, in the order in which a text counts them


@dataclass(frozen=True, slots=True)
class Finishing:
    """What a result is made of, beside what the model made: see `engine.results`."""

    geometry: Geometry  # the way back from the canvas
    detail: Detail = "model"
    preserve: Preserve = "off"
    return_mask: bool = False
    measures: Measures = "none"
    repair: Repair = "none"
    background: Background = "opaque"  # transparent where the source is and its alpha is wanted
    # Files and not pixels, since this waits in queues: the source image, where anything of it is
    # to be kept, and the mask, where there is one.
    source: bytes | None = None
    mask: bytes | None = None
    # What the model was shown, (H, W, 3) uint8: in place of the file where the result has another
    # size and no mask, or is only compared, so that a large source is not decoded twice; beside the
    # file where it takes no more than that, so that the source is not shrunk twice.
    canvas: np.ndarray | None = None
    edit_words: tuple[str, ...] = ()  # of `engine.recipe`: what was asked for
    template: str = INSTRUCTION  # of the LoRA's style: what is around an edit's own instruction
    compares_source: bool = False  # whatever becomes of its alpha


@dataclass(frozen=True, slots=True)
class Prepared:
    """A request at model size, what its result is made with, and warnings of decoding."""

    request: EditRequest
    finishing: Finishing
    warnings: tuple[str, ...]


def prepare(
    id: str,
    source: Source,
    instruction: str,
    options: ResolvedOptions,
    spec: ModelSpec,
    accept: Collection[str] = (),
) -> Prepared:
    """Encoded bytes as a request for `spec`. Every door goes through here.

    `accept`: of `images.decode`. Raises `ImageError`, `MaskInvalid` and `OptionError`.
    """
    count = 1 + len(source.references)
    spec.check_sources(count)
    with naming_image(1, count):
        decoded = decode(source.image, accept)
    image, size, notes = decoded.image, size_of(decoded.picture), decoded.warnings
    if is_clear := options.background == "transparent" and "alpha_flattened" in notes:
        notes.remove("alpha_flattened")
    notes += find_poor(image, spec.resolution)
    geometry = plan_geometry(size, options, spec)
    pixels = to_canvas(image, geometry)
    mask = None if source.mask is None else _shown_mask(source.mask, size, geometry)
    digest = digest_of(pixels)
    del decoded, image  # large ones, beside which the next would not fit
    bring = _bringing(size, geometry, options, spec)
    references = _references(source.references, bring, accept, notes)
    if spec.has_control:
        references = [_control(references, pixels, options, notes)]
    others = tuple(references)
    lora = spec.styles.get(options.style or "")
    request = EditRequest(
        id, pixels, instruction, options, digest=digest, references=others, mask=mask, adapter=lora
    )
    shrinks = source.mask is None and geometry.output != size
    finishing = _finishing(request, source, geometry, shrinks, is_clear)
    finishing = replace(finishing, edit_words=_words(request, source, spec))
    if options.size is None and _is_smaller(geometry.output, size, spec.multiple):
        notes.append("smaller_than_source")
    return Prepared(request, finishing, tuple(notes))


def _words(request: EditRequest, source: Source, spec: ModelSpec) -> tuple[str, ...]:
    images, has_mask = len(source.references), source.mask is not None
    asked = (request.instruction, request.options, spec)
    return edit_words(*asked, images=images, has_mask=has_mask)


def _finishing(
    request: EditRequest, source: Source, geometry: Geometry, shrinks: bool, is_clear: bool
) -> Finishing:
    """Keep what the result is made with. `shrinks`: all of it is on the canvas; `is_clear`: its
    alpha is to be given back, which is in the file alone."""
    options = request.options
    needs_file = is_clear or (request.keeps_source and not shrinks)
    is_small = request.pixels.nbytes <= len(source.image)
    return Finishing(
        *(geometry, options.detail, options.preserve, options.return_mask),
        *(options.measures, options.repair),
        background="transparent" if is_clear else "opaque",
        source=source.image if needs_file else None,
        mask=source.mask,
        canvas=request.pixels if request.compares_source and (not needs_file or is_small) else None,
        template=INSTRUCTION if request.adapter is None else request.adapter.template,
        compares_source=request.compares_source,
    )


def _bringing(
    size: tuple[int, int], geometry: Geometry, options: ResolvedOptions, spec: ModelSpec
) -> Callable[[Image.Image], np.ndarray]:
    """Choose how a further image comes to a canvas: to its own, or as a control image."""
    if spec.has_control:
        return partial(given_control, source=size, geometry=geometry, options=options, spec=spec)
    return lambda image: to_canvas(image, reference_geometry(image.size, spec))


def _references(
    files: Sequence[bytes],
    bring: Callable[[Image.Image], np.ndarray],
    accept: Collection[str],
    notes: list[str],
) -> list[np.ndarray]:
    """Decode the further images, one at a time; what was softened goes to `notes`, once."""

    def brought(file: bytes) -> np.ndarray:
        decoded = decode(file, accept)
        notes.extend(note for note in decoded.warnings if note not in notes)
        return bring(decoded.image)

    made = []
    for number, file in enumerate(files, start=2):
        with naming_image(number, 1 + len(files)):
            made.append(brought(file))
    return made


def _control(
    given: Sequence[np.ndarray], pixels: np.ndarray, options: ResolvedOptions, notes: list[str]
) -> np.ndarray:
    """The control image that was given, or the edges of the canvas; an empty one is noted."""
    control = given[0] if given else find_edges(pixels, options)
    if not control.any():
        notes.append("control_empty")
    return control


@contextmanager
def naming_image(number: int, count: int) -> Iterator[None]:
    """Say in an `ImageError` which image of `count` it is of, from 1; nothing of one alone."""
    try:
        yield
    except ImageError as error:
        if count == 1:
            raise
        message = f"image {number} of {count}: {error.message}"
        raise type(error)(message, param=error.param) from None


def _shown_mask(data: bytes, size: tuple[int, int], geometry: Geometry) -> np.ndarray:
    """What of a mask lies on the canvas; raises `MaskInvalid` where that asks for no edit."""
    mask = mask_to_canvas(decode_mask(data, size), geometry)
    if not mask.any():
        raise MaskInvalid(
            "the transparent part of the mask lies outside of what the model is shown: use "
            "resize=pad, or restore_size"
        )
    return mask


def _is_smaller(output: tuple[int, int], source: tuple[int, int], multiple: int) -> bool:
    """Whether a side is lost by more than rounding to the model's multiple explains."""
    return any(made + multiple <= had for made, had in zip(output, source, strict=True))


def read_data_url(url: str, param: str = "image_url") -> bytes:
    """The bytes of a base64 data URL; anything else is refused by name, and nothing is fetched.

    `param`: the field that holds it, for the message.
    """
    check_data_url(url, param)
    try:
        packed = unquote(url.partition(",")[2]).encode("ascii").translate(None, _SPACES)
        if len(packed) > MAX_BYTES * 4 // 3 + 4:
            raise ImageTooLarge(f"{param} has more than {MAX_BYTES:,} bytes", param=param)
        return base64.b64decode(packed + b"=" * (-len(packed) % 4), validate=True)
    except (binascii.Error, ValueError):
        raise ImageUnreadable("the data URL is not valid base64", param=param) from None


def check_data_url(url: str, param: str) -> None:
    """Refuse by its head what is no base64 data URL; raises `ImageError`."""
    scheme, colon, _ = url[:64].partition(":")
    if scheme.lower() != "data":
        scheme = scheme if colon and scheme.isalnum() else "path"
        raise ImageSourceRefused(
            f"{param} is a {scheme}; this server fetches nothing: send it as a file or as "
            "a data:image/...;base64 URL",
            param=param,
        )
    head, comma, _ = url.partition(",")
    if not comma or not head.lower().endswith(";base64"):
        raise ImageUnreadable("the data URL must be data:image/...;base64,...", param=param)
