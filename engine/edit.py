"""The records that cross every boundary: a request goes in, an outcome comes out."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from engine.errors import EngineError, InternalError, error_classes
from engine.options import EditOptions


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

    def error(self) -> EngineError:
        """Return the exception that this failure tells of, to be raised."""
        kinds = {kind.code: kind for kind in error_classes()}
        error = kinds.get(self.code, InternalError)(self.message)
        error.param = self.param
        return error


EditOutcome = EditResult | EditFailure
