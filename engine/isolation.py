"""Work on many items together, such that one item's fault stays its own."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import torch

from engine.errors import OutOfMemory

logger = logging.getLogger(__name__)

T = TypeVar("T")

DEAD_DEVICE_EXIT_CODE = 70
# CUDA errors after which every later call in the process fails too (CUDA's "sticky" errors).
_DEAD_DEVICE = (
    "illegal memory access",
    "device-side assert",
    "unspecified launch failure",
    "misaligned address",
    "uncorrectable ECC",
    "device has been lost",
)


def isolate(
    work: Callable[[Sequence[T]], Any],
    items: Sequence[T],
    fail: Callable[[T, BaseException], None],
    shrink: Callable[[int], None] | None = None,
) -> None:
    """`work` on all items; where it raises, on each half, down to the item that fails alone.

    `shrink(size)` is told that more than `size` items together do not fit in memory. A dead device
    ends the process: a retry in it could only meet the same error.
    """
    if not items:
        return
    try:
        work(items)
        return
    except Exception as caught:  # whatever a model raises must not reach the neighbours
        error = caught.with_traceback(None)  # its frames hold the tensors that did not fit
    _exit_if_the_device_is_dead(error)
    out_of_memory = isinstance(error, torch.OutOfMemoryError)
    if out_of_memory and torch.cuda.is_available():
        torch.cuda.empty_cache()
    if len(items) == 1:
        if out_of_memory:
            error = OutOfMemory(f"the edit does not fit in the device's memory: {error}")
        logger.warning("one edit failed: %s", error)
        fail(items[0], error)
        return
    middle = len(items) // 2
    if out_of_memory and shrink is not None:
        shrink(middle)
    isolate(work, items[:middle], fail, shrink)
    isolate(work, items[middle:], fail, shrink)


def _exit_if_the_device_is_dead(error: BaseException) -> None:
    text = str(error)
    if isinstance(error, RuntimeError) and any(sign in text for sign in _DEAD_DEVICE):
        logger.critical("the device is dead, ending this process: %s", text)
        logging.shutdown()
        os._exit(DEAD_DEVICE_EXIT_CODE)
