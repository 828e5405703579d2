"""The pipe from the server that started a job: the job ends when it does, as a killed server's."""

from __future__ import annotations

import os
import signal
import threading
import time

import psutil

from batch_jobs.stopping import GRACE_S
from cluster.processes import kill, with_descendants

PATIENCE_S = GRACE_S + 10.0  # for the block in hand, and for Ray


def end_with(pipe: int, patience_s: float = PATIENCE_S) -> None:
    """Stop this process when the other end of a pipe is closed, as who sends it SIGTERM does; kill
    it with all that it started where it is still there `patience_s` later.

    `pipe`: a file descriptor, such as 0, whose other end nobody else has.
    """
    arguments = (pipe, patience_s)
    threading.Thread(target=_watch, args=arguments, name="lifeline", daemon=True).start()


def _watch(pipe: int, patience_s: float) -> None:
    while os.read(pipe, 1):  # a thread that reads sys.stdin would be in the way of the end
        pass
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(patience_s)
    this = psutil.Process()
    kill(set(with_descendants([this])) - {this})
    this.kill()
