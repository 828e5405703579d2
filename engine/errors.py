"""Every way an edit can fail: one class, one code, one HTTP status each.

    EngineError
    ├── RequestError               the request's fault: the same request fails again
    │   ├── ImageError
    │   │   ├── ImageMissing           image_missing         400
    │   │   ├── ImageNotFound          image_not_found       400
    │   │   ├── ImageSourceRefused     image_source_refused  400
    │   │   ├── ImageUnsupported       image_unsupported     400
    │   │   ├── ImageUnreadable        image_unreadable      400
    │   │   ├── ImageTruncated         image_truncated       400
    │   │   ├── ImageAnimated          image_animated        400
    │   │   ├── ImageTooLarge          image_too_large       400
    │   │   ├── ImageTooSmall          image_too_small       400
    │   │   ├── ImageTooNarrow         image_too_narrow      400
    │   │   └── PreviousTurnFailed     previous_turn_failed  400
    │   ├── OptionError
    │   │   ├── OptionUnknown          option_unknown        400
    │   │   └── OptionInvalid          option_invalid        400
    │   ├── MaskInvalid            mask_invalid          400
    │   ├── InstructionError
    │   │   ├── InstructionEmpty       instruction_empty     400
    │   │   ├── InstructionTooLong     instruction_too_long  400
    │   │   ├── InstructionLanguage    instruction_language  400
    │   │   └── InstructionUnknown     instruction_unknown   400
    │   ├── RewritingFailed        rewriting_failed      400
    │   ├── ModelUnknown           model_not_found       404
    │   ├── ManifestInvalid        manifest_invalid      400
    │   ├── OutputUnusable         output_unusable       400
    │   └── OutputBusy             output_busy           409
    ├── TransientError             ours: the same request may succeed later
    │   ├── OutOfMemory                out_of_memory         503
    │   ├── NotReady                   not_ready             503
    │   ├── ClusterUnavailable         cluster_unavailable   503
    │   ├── Overloaded                 overloaded            503
    │   ├── DeadlineExceeded           deadline_exceeded     504
    │   ├── WorkerCrashed              worker_crashed        503
    │   ├── Cancelled                  cancelled             499
    │   ├── NonFinite                  non_finite            500
    │   ├── TranslationFailed          translation_failed    502
    │   └── InternalError              internal_error        500
    ├── ModelError                     model_unusable        500
    └── AdapterUnusable                adapter_unusable      500

Raised inside, returned as an `EditFailure` at the edge of a batch. `serve_app.errors` adds HTTP's.
"""

from __future__ import annotations

from functools import partial
from typing import Any, ClassVar


class EngineError(Exception):
    """`param` names the option or field that was wrong, if one was."""

    code: ClassVar[str] = "internal_error"
    status: ClassVar[int] = 500
    retryable: bool = False  # sent again, it may succeed
    field: ClassVar[str | None] = None  # the `param` of one that is given none

    def __init_subclass__(
        cls, *, code: str | None = None, status: int | None = None, param: str | None = None
    ) -> None:
        cls.code, cls.status = code or cls.code, status or cls.status
        cls.field = param or cls.field

    def __init__(self, message: str, *, param: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.param = param or self.field

    def __reduce__(self) -> tuple[Any, ...]:
        return partial(type(self), param=self.param), (self.message,), self.__dict__


class RequestError(EngineError, status=400):
    """The request's fault: sent again, it fails again."""


class ImageError(RequestError, param="image"):
    """The source image cannot be used."""


class ImageMissing(ImageError, code="image_missing"):
    """No source image was given."""


class ImageNotFound(ImageError, code="image_not_found"):
    """The source names a file or object that is not there or may not be read."""


class ImageSourceRefused(ImageError, code="image_source_refused"):
    """The source is of a kind that this door does not fetch."""


class ImageUnsupported(ImageError, code="image_unsupported"):
    """The bytes are not a JPEG, PNG or WebP image, nor what `accept` takes beside them."""


class ImageUnreadable(ImageError, code="image_unreadable"):
    """The bytes begin like an image but cannot be decoded."""


class ImageTruncated(ImageError, code="image_truncated"):
    """The image ends too early."""


class ImageAnimated(ImageError, code="image_animated"):
    """The image has more than one frame."""


class ImageTooLarge(ImageError, code="image_too_large"):
    """Too many bytes, pixels, or pixels a side."""


class ImageTooSmall(ImageError, code="image_too_small"):
    """A side is below the minimum."""


class ImageTooNarrow(ImageError, code="image_too_narrow"):
    """The aspect ratio is beyond the bound."""


class PreviousTurnFailed(ImageError, code="previous_turn_failed"):
    """An earlier turn of the chain made no picture that this one could edit."""


class OptionError(RequestError):
    """An option of the edit is wrong."""


class OptionUnknown(OptionError, code="option_unknown"):
    """No option has this name."""


class OptionInvalid(OptionError, code="option_invalid"):
    """The value has the wrong type or is out of range, or this model cannot honour it."""


class MaskInvalid(RequestError, code="mask_invalid", param="mask"):
    """The mask is not an 8-bit PNG with alpha of the image's size, or keeps or edits nothing."""


class InstructionError(RequestError, param="instruction"):
    """The instruction cannot be used."""


class InstructionEmpty(InstructionError, code="instruction_empty"):
    """There is no instruction."""


class InstructionTooLong(InstructionError, code="instruction_too_long"):
    """More characters or tokens than the model reads; rayedit never truncates silently."""


class InstructionLanguage(InstructionError, code="instruction_language"):
    """The text encoder does not know this script (with `strict_language`)."""


class InstructionUnknown(InstructionError, code="instruction_unknown"):
    """The model does not know the edit that is asked for (with `strict_instruction`)."""


class RewritingFailed(RequestError, code="rewriting_failed"):
    """No instruction and edited caption could be made of a caption."""


class ModelUnknown(RequestError, code="model_not_found", status=404, param="model"):
    """No such model is registered or served."""


class ManifestInvalid(RequestError, code="manifest_invalid"):
    """The manifest cannot be run: refused before anything starts."""


class OutputUnusable(RequestError, code="output_unusable"):
    """The output cannot be written, or holds the results of another manifest."""


class OutputBusy(RequestError, code="output_busy", status=409):
    """Another job is writing this output."""


class TransientError(EngineError, status=503):
    """Ours: sent again, it may succeed; `retry_after_s`: when it should be, where that is known."""

    retryable = True

    def __init__(
        self, message: str, *, param: str | None = None, retry_after_s: int | None = None
    ) -> None:
        super().__init__(message, param=param)
        self.retry_after_s = retry_after_s


class OutOfMemory(TransientError, code="out_of_memory"):
    """The edit does not fit in the device's memory, even alone."""


class NotReady(TransientError, code="not_ready"):
    """The model is still loading, or the worker is shutting down."""


class ClusterUnavailable(TransientError, code="cluster_unavailable"):
    """The Ray that was to do the work did not start; nothing was done, nothing is lost."""


class Overloaded(TransientError, code="overloaded"):
    """More work is queued than can be done before its deadline."""


class DeadlineExceeded(TransientError, code="deadline_exceeded", status=504):
    """The edit was not done in time."""


class WorkerCrashed(TransientError, code="worker_crashed"):
    """The process that ran the edit died."""


class Cancelled(TransientError, code="cancelled", status=499):
    """The edit was cancelled by its caller."""


class NonFinite(TransientError, code="non_finite", status=500):
    """The model produced NaN or infinity for this sample."""


class TranslationFailed(TransientError, code="translation_failed", status=502):
    """The operator's translator did not say in English what the instruction asks for."""


class InternalError(TransientError, code="internal_error", status=500):
    """A bug of ours, or a fault we have no name for."""


class ModelError(EngineError, code="model_unusable"):
    """The model cannot be loaded: at start only."""


class AdapterUnusable(EngineError, code="adapter_unusable", param="style"):
    """The LoRA of a style cannot be used: its file is missing, damaged, or of another model."""
