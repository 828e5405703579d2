"""An editor for notebooks and scripts: any image in, PIL images out."""

from __future__ import annotations

import io
import os
import threading
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
from PIL import Image

from engine.config import EngineConfig, load_config
from engine.edit import EditFailure, EditResult
from engine.errors import EngineError, MaskInvalid, OptionInvalid
from engine.options import EditOptions
from engine.results import finished_images
from engine.seeding import draw_seed
from engine.sources import Prepared, Source, prepare
from engine.text import clean_instruction
from storage.sources import read_source

ImageLike = str | os.PathLike[str] | bytes | Image.Image | np.ndarray
MaskLike = ImageLike

_PNG_MODES = ("1", "L", "LA", "I;16", "P", "RGB", "RGBA")


class Editor:
    """A loaded model.

        with rayedit.Editor("pocket", determinism="strict") as editor:
            night = editor.edit("photo.jpg", "make it night", seed=7)

    An image is a path or storage URI, the bytes of a file, a PIL image, or an array (H, W, 3) uint8
    RGB; a PIL image or an array is edited as its PNG file would be. Threads may share an editor.
    """

    def __init__(
        self, model: str | None = None, *, config: str | Path | None = None, **settings: Any
    ) -> None:
        """Load `model`: a registered name, a diffusers folder, or hub_id@revision; default: pocket.

        `config`: YAML of the engine's settings; `settings`: fields of `EngineConfig`, such as
        `device`, `dtype`, `determinism`, `max_batch_size`. Raises `EngineError`.
        """
        from engine.actor import EditActor  # loads torch

        chosen = load_config(config, EngineConfig, "engine", model=model, **settings)
        self._actor = EditActor(chosen)

    def edit(
        self, image: ImageLike, instruction: str, *, mask: MaskLike | None = None, **options: Any
    ) -> Image.Image:
        """Edit one image.

        `mask`: OpenAI's, a PNG with alpha (path, bytes, PIL image) that is transparent where the
        edit may change the image; or an array (H, W) bool or uint8 that is 0 where it must not.
        `options`: fields of `EditOptions`, such as `seed`, `num_inference_steps`,
        `guidance_scale`, `restore_size`. The seed stands in the `info["seed"]` of what is returned,
        codes of what was softened in `info["warnings"]`, an `EditReport` in `info["edit_report"]`
        where something of the source is kept, and with `return_mask` a picture of mode L in
        `info["mask"]`, 255 where it was edited. Raises `EngineError` where the edit fails.
        """
        (edited,) = self.edit_many([image], instruction, masks=[mask], **options)
        if isinstance(edited, EditFailure):
            raise edited.error()
        return edited

    def edit_many(
        self,
        images: Sequence[ImageLike],
        instructions: str | Sequence[str],
        *,
        masks: Sequence[MaskLike | None] | None = None,
        **options: Any,
    ) -> list[Image.Image | EditFailure]:
        """Edit each image by its instruction, or all by one; they share the model's batches.

        `masks`: one for each image, or None; see `edit`.
        An option that is a list has a value for each image: `seed=[1, 2, 3]`. One that fails gives
        an `EditFailure` in its place and costs the others nothing. Raises `OptionInvalid` where
        the lists differ in length.
        """
        count = len(images)
        texts = [instructions] * count if isinstance(instructions, str) else list(instructions)
        drawn = [None] * count if masks is None else list(masks)
        _check_length("instructions", texts, count)
        _check_length("masks", drawn, count)
        for name, values in options.items():
            if isinstance(values, list):
                _check_length(name, values, count)
        prepared = [
            self._prepare(image, mask, text, {k: _at(i, value) for k, value in options.items()})
            for i, (image, mask, text) in enumerate(zip(images, drawn, texts, strict=True))
        ]
        requests = [p.request for p in prepared if isinstance(p, Prepared)]
        outcomes = iter(self._actor.edit_batch(requests))
        return [_edited(p, next(outcomes)) if isinstance(p, Prepared) else p for p in prepared]

    def close(self) -> None:
        """Finish what runs and let the model go."""
        self._actor.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _prepare(
        self,
        image: ImageLike,
        mask: MaskLike | None,
        instruction: str,
        options: Mapping[str, Any],
    ) -> Prepared | EditFailure:
        id = uuid.uuid4().hex
        try:
            given = EditOptions.parse({k: v for k, v in options.items() if v is not None})
            if given.num_images > 1:
                raise OptionInvalid(
                    "num_images: each call gives an image for each image that it is given; use "
                    "edit_many([image] * n, ...), each with a seed of its own",
                    param="num_images",
                )
            resolved = self._actor.spec.resolve(given, draw_seed())
            text = clean_instruction(instruction)
            files = Source(_file_of(image), None if mask is None else _mask_file_of(mask))
            return prepare(id, files, text, resolved, self._actor.spec)
        except EngineError as error:
            return EditFailure.of(id, error)


def edit(
    image: ImageLike,
    instruction: str,
    *,
    model: str = "pocket",
    mask: MaskLike | None = None,
    **options: Any,
) -> Image.Image:
    """Edit one image with `model`, which stays loaded until another one is asked for.

    See `Editor.edit`; for settings of the engine, or many images at once, make an `Editor`.
    """
    return _kept(model).edit(image, instruction, mask=mask, **options)


_keeping = threading.Lock()
_editors: dict[str, Editor] = {}


def _kept(model: str) -> Editor:
    with _keeping:
        if model not in _editors:
            while _editors:
                _editors.popitem()[1].close()
            _editors[model] = Editor(model)
        return _editors[model]


def _at(index: int, value: Any) -> Any:
    return value[index] if isinstance(value, list) else value


def _check_length(name: str, values: Sequence[object], count: int) -> None:
    if len(values) != count:
        raise OptionInvalid(f"{name}: {len(values)} values for {count} images", param=name)


def _edited(prepared: Prepared, outcome: EditResult | EditFailure) -> Image.Image | EditFailure:
    if isinstance(outcome, EditFailure):
        return outcome
    (made,) = finished_images(outcome, prepared.finishing)
    image = made.image
    image.info = {
        "seed": outcome.seeds[0],
        "warnings": (*prepared.warnings, *outcome.warnings, *made.warnings),
        "edit_report": made.report,
        "mask": None if made.edited is None else Image.fromarray(made.edited),
    }
    return image


def _file_of(image: ImageLike) -> bytes:
    """The bytes of an image file; raises `ImageError` and `OptionInvalid`."""
    if isinstance(image, bytes):
        return image
    if isinstance(image, str | os.PathLike):
        return read_source(os.fspath(image))
    if isinstance(image, np.ndarray):
        return _png(_of_array(image))
    if isinstance(image, Image.Image):
        return _png(image)
    raise OptionInvalid(
        f"image must be a path, bytes, a PIL image or an array; got {type(image).__name__}",
        param="image",
    )


def _mask_file_of(mask: MaskLike) -> bytes:
    """The bytes of a mask's PNG."""
    if not isinstance(mask, np.ndarray):
        return _file_of(mask)
    if mask.ndim != 2 or mask.dtype not in (np.uint8, np.bool_):
        raise MaskInvalid(
            f"mask: an array must be (H, W) bool or uint8; got {mask.shape} {mask.dtype}"
        )
    edited = mask.astype(np.uint8) * 255 if mask.dtype == np.bool_ else mask
    alpha = Image.fromarray(255 - edited)
    return _png(Image.merge("LA", (Image.new("L", alpha.size), alpha)))


def _of_array(pixels: np.ndarray) -> Image.Image:
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3:
        raise OptionInvalid(
            f"image: an array must be (H, W, 3) uint8; got {pixels.shape} {pixels.dtype}",
            param="image",
        )
    return Image.fromarray(pixels)


def _png(image: Image.Image) -> bytes:
    """A lossless file with the image's profile and orientation."""
    if image.mode not in _PNG_MODES:
        image = image.convert("RGB")
    buffer = io.BytesIO()
    image.save(buffer, "PNG", compress_level=1, exif=image.getexif())
    return buffer.getvalue()
