"""Keeps one item's fault its own, though many are worked on together."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import torch

from engine.errors import OutOfMemory
from engine.models import ContractBroken

logger = logging.getLogger(__name__)

T = TypeVar("T")

DEAD_DEVICE_EXIT_CODE = 70


def isolate(
    work: Callable[[Sequence[T]], Any],
    items: Sequence[T],
    fail: Callable[[T, BaseException], None],
    shrink: Callable[[int], None] | None = None,
) -> None:
    """Do `work` on all items; where it raises, on each half, down to the item that fails alone.

    `shrink(size)` is told that more than `size` items together do not fit in memory. Raises
    `ContractBroken` alone: a fault of the family, which halving would only hide.
    """
    if not items:
        return
    try:
        work(items)
        return
    except ContractBroken:
        raise
    except Exception as caught:  # whatever a model raises must not reach the neighbours
        error = caught.with_traceback(None)  # its frames hold the tensors that did not fit
    out_of_memory = _is_out_of_memory(error)
    if not out_of_memory:
        exit_if_the_device_is_dead(error)
    elif torch.cuda.is_available():
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


def _is_out_of_memory(error: BaseException | None) -> bool:
    """Also where cuBLAS, cuDNN or a graph's capture says it in words of its own."""
    if error is None:
        return False
    said = "out of memory" in str(error) or "ALLOC_FAILED" in str(error)
    out_of_memory = isinstance(error, torch.OutOfMemoryError)
    return out_of_memory or said or _is_out_of_memory(error.__context__)


def exit_if_the_device_is_dead(error: BaseException) -> None:
    """End the process where no later call on its GPU can succeed (CUDA's "sticky" errors).

    A retry in the same process could only meet the same error.
    """
    if not isinstance(error, RuntimeError):
        return
    sticky = isinstance(error, torch.AcceleratorError) or "CUDA error" in str(error)
    if sticky and not _device_answers():
        logger.critical("the device is dead, ending this process: %s", error)
        logging.shutdown()
        os._exit(DEAD_DEVICE_EXIT_CODE)


def _device_answers() -> bool:
    try:
        torch.cuda.synchronize()
    except (RuntimeError, AssertionError):  # a torch without CUDA asserts
        return False
    return True
