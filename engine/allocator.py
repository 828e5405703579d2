"""glibc's allocator: what it keeps and what it gives back. Other libraries are left alone."""

from __future__ import annotations

import ctypes

# Options of mallopt, from glibc's malloc.h.
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_THRESHOLD = -1, -2, -3
MMAP_BYTES = 32 << 20  # the largest threshold that it takes: what is larger goes back in any case
HEAP_BYTES = 64 << 20  # the whole heap of a thread, which then is never given back


def keep_freed_memory(most_bytes: int | None = None) -> None:
    """Let this process keep memory that it frees, for what it allocates next.

    glibc gives much of it back to the kernel, which clears every page of the next step's tensors
    anew: up to 100,000 page faults an image on a CPU (docs/decisions.md). `most_bytes`: of what is
    kept; None: all of it.
    """
    _call("mallopt", _M_MMAP_THRESHOLD, MMAP_BYTES)
    _call("mallopt", _M_TRIM_THRESHOLD, 2**31 - 1 if most_bytes is None else most_bytes)
    _call("mallopt", _M_TOP_PAD, HEAP_BYTES if most_bytes is None else 0)


def trim() -> None:
    """Give back to the kernel what is free."""
    _call("malloc_trim", 0)


def _call(name: str, *arguments: int) -> None:
    """Call this function of the C library, where it has it."""
    function = getattr(ctypes.CDLL(None), name, None)
    if function is not None:
        function(*arguments)
