"""glibc's allocator: what it keeps and what it gives back. Other libraries are left alone."""

from __future__ import annotations

import ctypes

# Options of mallopt, from glibc's malloc.h: 32 MiB is the largest threshold that it takes, 64 MiB a
# thread's whole heap.
_M_MMAP_THRESHOLD, _M_TRIM_THRESHOLD, _M_TOP_PAD = -3, -1, -2
MALLOPT = {_M_MMAP_THRESHOLD: 32 << 20, _M_TRIM_THRESHOLD: 2**31 - 1, _M_TOP_PAD: 64 << 20}


def keep_freed_memory() -> None:
    """Let this process keep the memory that it frees, for what it allocates next.

    glibc gives much of it back to the kernel, which clears every page of the next step's tensors
    anew: up to 100,000 page faults an image on a CPU (docs/decisions.md).
    """
    for option, value in MALLOPT.items():
        _call("mallopt", option, value)


def trim() -> None:
    """Give back to the kernel what is free."""
    _call("malloc_trim", 0)


def _call(name: str, *arguments: int) -> None:
    """Call this function of the C library, where it has it."""
    function = getattr(ctypes.CDLL(None), name, None)
    if function is not None:
        function(*arguments)
