"""Faults that an instruction asks an editor for."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence

from engine.edit import EditRequest


def commit_fault(requests: Sequence[EditRequest]) -> None:
    """Do what an instruction says: "fail in encode", "exit in encode", "exit beside others in
    encode", "sleep in encode", "hang in encode", "end the thread in encode"."""
    texts = [request.instruction for request in requests]
    if "exit in encode" in texts:
        os._exit(17)
    if "exit beside others in encode" in texts and len(texts) > 1:
        os._exit(17)
    if "end the thread in encode" in texts:
        raise SystemExit
    if "hang in encode" in texts:
        time.sleep(3600)
    if "sleep in encode" in texts:
        time.sleep(0.5)
    if "fail in encode" in texts:
        raise RuntimeError("injected fault")
