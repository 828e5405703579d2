"""Standard error without what the C++ part of Ray writes to it, which its own log holds too."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

STDERR = 2  # the file descriptor


@contextmanager
def python_stderr() -> Iterator[None]:
    """Keep standard error for Python for the length of a block.

    A driver's C++ part writes errors there that are none, such as that an actor could not be
    restarted if its arguments were lost, and its own words when a signal comes.
    """
    if not _is_the_process_own():
        yield
        return
    sys.stderr.flush()
    before, kept = sys.stderr, os.dup(STDERR)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, STDERR)
    os.close(nowhere)
    sys.stderr = os.fdopen(kept, "w", buffering=1, errors="backslashreplace", closefd=False)
    try:
        yield
    finally:
        sys.stderr.flush()
        sys.stderr = before
        os.dup2(kept, STDERR)  # `kept` stays open: Ray has Python write there should it crash


def _is_the_process_own() -> bool:
    """Tell whether nobody has put another file in the place of `sys.stderr`."""
    try:
        return sys.stderr.fileno() == STDERR
    except (AttributeError, OSError, io.UnsupportedOperation):
        return False
