"""An editor for notebooks and scripts: any image in, PIL images out."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from PIL import Image

from engine.config import EngineConfig, load_config
from engine.edit import EditFailure, EditResult
from engine.errors import EngineError, OptionInvalid
from engine.formats import check_accept
from engine.options import EditOptions
from engine.seeding import draw_seed
from engine.sources import Prepared, prepare
from engine.text import clean_instruction
from rayedit.files import ImageLike, MaskLike, source_of


class Editor:
    """A loaded model.

        with rayedit.Editor("pocket", determinism="strict") as editor:
            night = editor.edit("photo.jpg", "make it night", seed=7)

    An image is a path or storage URI, the bytes of a file, a PIL image, or an array (H, W, 3) uint8
    RGB; a PIL image or an array is edited as its PNG file would be. Threads may share an editor.
    """

    def __init__(
        self,
        model: str | None = None,
        *,
        config: str | Path | None = None,
        accept: Sequence[str] = (),
        **settings: Any,
    ) -> None:
        """Load `model`: a registered name, a diffusers folder, or hub_id@revision; default: pocket.

        `config`: YAML of the engine's settings; `accept`: formats of files that are taken beside
        JPEG, PNG and WebP: avif, bmp, gif, heic, tiff; `settings`: fields of `EngineConfig`, such
        as `device`, `dtype`, `determinism`, `max_batch_size`. Raises `EngineError`.
        """
        from engine.actor import EditActor  # loads torch

        chosen = load_config(config, EngineConfig, "engine", model=model, **settings)
        self._accept = check_accept(tuple(accept))
        self._styles = chosen.find_styles()
        self._actor = EditActor(chosen)

    def edit(
        self,
        image: ImageLike,
        instruction: str = "",
        *,
        references: Sequence[ImageLike] = (),
        mask: MaskLike | None = None,
        **options: Any,
    ) -> Image.Image:
        """Edit one image; without an instruction where its `style` is one.

        `references`: further images that the instruction speaks of, for a model that takes several.
        `mask`: OpenAI's, a PNG with alpha (path, bytes, PIL image) that is transparent where the
        edit may change the image; or an array (H, W) bool or uint8 that is 0 where it must not.
        `options`: fields of `EditOptions`, such as `seed`, `num_inference_steps`,
        `guidance_scale`, `restore_size`. The seed stands in the `info["seed"]` of what is returned,
        codes of what was softened in `info["warnings"]`, with `instruction_unknown` among them the
        edit that was made in `info["understood_as"]`, an `EditReport` in `info["edit_report"]`
        where something of the source is kept, the result is measured or its guidance set itself,
        with `return_mask` a picture of mode L in `info["mask"]`, 255 where it was edited, and in
        `info["parameters"]` the command that makes it again, as PNG files of the other doors carry
        it. Raises `EngineError` where the edit fails.
        """
        (edited,) = self.edit_many(
            [image], instruction, references=[references], masks=[mask], **options
        )
        if isinstance(edited, EditFailure):
            raise edited.error()
        return edited

    def edit_many(
        self,
        images: Sequence[ImageLike],
        instructions: str | Sequence[str] = "",
        *,
        references: Sequence[Sequence[ImageLike]] | None = None,
        masks: Sequence[MaskLike | None] | None = None,
        **options: Any,
    ) -> list[Image.Image | EditFailure]:
        """Edit each image by its instruction, or all by one; they share the model's batches.

        `references`: a list for each image; `masks`: one for each image, or None; see `edit`.
        An option that is a list has a value for each image: `seed=[1, 2, 3]`. One that fails gives
        an `EditFailure` in its place and costs the others nothing. Raises `OptionInvalid` where
        the lists differ in length.
        """
        count = len(images)
        texts = [instructions] * count if isinstance(instructions, str) else list(instructions)
        further = [()] * count if references is None else list(references)
        drawn = [None] * count if masks is None else list(masks)
        for name, values in {
            "instructions": texts,
            "references": further,
            "masks": drawn,
        }.items():
            _check_length(name, values, count)
        for name, values in options.items():
            if isinstance(values, list):
                _check_length(name, values, count)
        prepared = [
            self._prepare(*given, {k: _at(i, value) for k, value in options.items()})
            for i, given in enumerate(zip(images, further, drawn, texts, strict=True))
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
        references: Sequence[ImageLike],
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
            spec = self._actor.spec
            spec.check_sources(1 + len(references), param="references")
            text, given = self._styles.apply(instruction, given, spec)
            resolved = spec.resolve(given, draw_seed())
            text = clean_instruction(text)
            source = source_of(image, references, mask)
            return prepare(id, source, text, resolved, spec, self._accept)
        except EngineError as error:
            return EditFailure.of(id, error)


def edit(
    image: ImageLike,
    instruction: str = "",
    *,
    model: str = "pocket",
    references: Sequence[ImageLike] = (),
    mask: MaskLike | None = None,
    **options: Any,
) -> Image.Image:
    """Edit one image with `model`, which stays loaded until another one is asked for.

    See `Editor.edit`; for settings of the engine, or many images at once, make an `Editor`.
    """
    return _kept(model).edit(image, instruction, references=references, mask=mask, **options)


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
    from engine.results import finished_images  # loads OpenCV

    (made,) = finished_images(outcome, prepared.finishing)
    image = made.image
    image.info = {
        "seed": outcome.seeds[0],
        "warnings": (*prepared.warnings, *outcome.warnings, *made.warnings),
        "understood_as": outcome.understood_as,
        "edit_report": made.report,
        "instruction_used": outcome.instruction_used,
        "mask": None if made.edited is None else Image.fromarray(made.edited),
        "parameters": made.command,
    }
    return image
