"""The answer to an edit: OpenAI's body of it, or its events."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from engine.edit import EditResult
from engine.options import Quality, ResolvedOptions
from engine.wire import OutputFormat
from serve_app.ingress.codec_tasks import EncodedImage
from serve_app.schemas import (
    CompletedEvent,
    EditedImage,
    ImagesResponse,
    PartialImageEvent,
    ShownBackground,
)


@dataclass(frozen=True, slots=True)
class Answer:
    """Writes what a client gets of one edit, in its words."""

    model: str
    format: OutputFormat
    options: ResolvedOptions
    decoding: Sequence[str]  # the warnings of decoding its source

    def body(
        self, result: EditResult, images: Sequence[EncodedImage], urls: Sequence[str] | None = None
    ) -> ImagesResponse:
        """Return the body of an edit that was not streamed; `images`: those of `result`. `urls`
        stand in the place of their files, where there are any."""
        places: list[dict[str, Any]]
        places = [{"url": url} for url in urls or ()] or [{"b64_json": each.b64} for each in images]
        return ImagesResponse(
            created=int(time.time()),
            data=[
                EditedImage(
                    seed=seed,
                    edit_report=image.report,
                    mask_b64_json=image.mask_b64,
                    **place,
                )
                for image, seed, place in zip(images, result.seeds, places, strict=True)
            ],
            background=self._background,
            output_format=self.format,
            quality=self._quality,
            size=_size(images[0]),
            model=self.model,
            warnings=self._warnings(result, images),
            understood_as=result.understood_as,
            instruction_used=result.instruction_used,
        )

    def preview(self, index: int, image: EncodedImage) -> PartialImageEvent:
        """Return the event of preview `index`."""
        return PartialImageEvent(partial_image_index=index, **self._event(image))

    def completed(
        self, result: EditResult, images: Sequence[EncodedImage]
    ) -> Iterator[CompletedEvent]:
        """Yield the event of each image of `result`."""
        for image, seed in zip(images, result.seeds, strict=True):
            yield CompletedEvent(
                seed=seed,
                model=self.model,
                edit_report=image.report,
                mask_b64_json=image.mask_b64,
                warnings=self._warnings(result, images),
                instruction_used=result.instruction_used,
                background=self._background,
                understood_as=result.understood_as,
                **self._event(image),
            )

    @property
    def _background(self) -> ShownBackground:
        return "transparent" if self.options.background == "transparent" else "opaque"

    @property
    def _quality(self) -> Quality:
        return self.options.quality or "auto"

    def _event(self, image: EncodedImage) -> dict[str, Any]:
        return {
            "b64_json": image.b64,
            "created_at": int(time.time()),
            "size": _size(image),
            "output_format": self.format,
            "quality": self._quality,
        }

    def _warnings(self, result: EditResult, images: Sequence[EncodedImage]) -> list[str]:
        """List what was softened: of the source, of the edit, of any of its images."""
        finishing = [warning for image in images for warning in image.warnings]
        return list(dict.fromkeys([*self.decoding, *result.warnings, *finishing]))


def _size(image: EncodedImage) -> str:
    return "{}x{}".format(*image.size)
