"""Partial images: what a sample will look like, guessed while it is being denoised."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

import numpy as np

from engine.isolation import isolate
from engine.models import Editor
from engine.samples import Sample
from engine.step import StepResult

logger = logging.getLogger(__name__)

# Request id, k of its partial images, (H, W, 3) uint8 RGB at model size.
PartialImage = Callable[[str, int, np.ndarray], None]


def show_partial_images(
    editor: Editor,
    show: PartialImage,
    samples: Sequence[Sample],
    result: StepResult,
) -> None:
    """Decode the latest guess of each sample that wants to be seen now, and `show` it.

    `result`: of the step just made. A fault is logged: it must not cost anybody the edit.
    """

    def decode(items: Sequence[tuple[int, int]]) -> None:
        for i, k in items:
            shown, predicted = samples[i].table.clean[samples[i].calls_done - 1].tolist()
            clean = shown * result.latents[i] + predicted * result.output[i]
            show(samples[i].live.request.id, k, editor.decode(clean[None])[0])

    for i, sample in enumerate(samples):
        if (k := preview_due(sample)) is not None:
            isolate(decode, [(i, k)], _log)


def _log(_: tuple[int, int], error: BaseException) -> None:
    logger.warning("no partial image: %s", error)


def preview_due(sample: Sample) -> int | None:
    """Return the number of the partial image that the step just made is for, or `None`.

    They divide the steps evenly, and only the first image of a request has them.
    """
    wanted, calls = sample.live.request.partial_images, sample.table.num_calls
    if sample.index > 0 or not wanted:
        return None
    marks = sorted({round(calls * (k + 1) / (wanted + 1)) for k in range(wanted)} - {0, calls})
    return marks.index(sample.calls_done) if sample.calls_done in marks else None
