"""A pool of processes, because a decoder may crash, hang, or fill the memory.

A child is a Python of its own (no Ray, no secrets in its environment), one task at a time over a
socket. It is killed and replaced when a task takes too long, and its address space is bounded so
that it can never hold more than `memory_bytes`.
"""

from __future__ import annotations

import os
import pickle
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, Literal, TypeVar

T = TypeVar("T")
Loss = Literal["slow", "busy", "memory", "died", "killed", "stopped"]

LOAD_S = 60.0  # of processor time, for a process to start
CLOCK_FACTOR = 6  # on a busy machine's clock a task may take so many times its processor time
MEMORY_BYTES = 512 * 2**20
_LOOK_S = 0.05
_GRACE_S = 1.0  # between the end of a process's pipe and its own
_KEPT = ("PATH", "HOME", "LANG", "LD_LIBRARY_PATH", "TMPDIR")  # of our environment
# A thread for what would take all cores, one arena: each more takes 128 MiB of address space.
_SMALL = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "1"}
_CHILD = "from engine.pool import serve; serve(%d, %d)"


class TaskLost(Exception):
    """A task that ended its process, or was ended with it.

    slow     it used up its processor time
    busy     it did not come to an end, for want of a free processor or because it hung
    memory   it needed more
    died     its process crashed
    killed   somebody else ended it, such as the kernel of a machine without memory
    stopped  its caller ended it
    """

    def __init__(self, kind: Loss, limit: str = "") -> None:
        """`limit`: the bound that it went beyond, such as "5 s"."""
        super().__init__(kind, limit)
        self.kind, self.limit = kind, limit


class DecodePool:
    """Runs functions in processes of its own.

    A task that goes beyond its bounds fails as `TaskLost`, and its neighbours do not notice.
    """

    def __init__(
        self,
        workers: int = 2,
        memory_bytes: int = MEMORY_BYTES,
        clock_factor: float = CLOCK_FACTOR,
        load: Callable[[], object] | None = None,
    ) -> None:
        """`load()` is called first in each of the `workers` processes, at no task's expense."""
        self._memory_bytes, self._clock_factor = memory_bytes, clock_factor
        self._load = load or os.getpid  # what answers runs
        self._threads = ThreadPoolExecutor(workers, thread_name_prefix="decode")
        self._idle: SimpleQueue[_Child] = SimpleQueue()
        self._closed = threading.Event()

    def submit(
        self,
        timeout_s: float,
        function: Callable[..., T],
        *arguments: Any,
        stop: threading.Event | None = None,
    ) -> Future[T]:
        """Run `function(*arguments)`, both picklable, in a process of the pool.

        It may take `timeout_s` of processor time, and is ended when `stop` is set. The future
        raises what `function` raises, and `TaskLost`.
        """
        stop = stop or threading.Event()
        return self._threads.submit(self._run, timeout_s, stop, function, arguments)

    def close(self) -> None:
        """Drop what waits, kill the processes that are idle; those at work end with their task."""
        self._closed.set()
        self._threads.shutdown(wait=False, cancel_futures=True)
        self._kill_idle()

    def _run(
        self,
        timeout_s: float,
        stop: threading.Event,
        function: Callable[..., T],
        arguments: tuple[Any, ...],
    ) -> T:
        child = self._take()
        try:
            if not child.loaded:
                child.call(LOAD_S, self._clock_factor * LOAD_S, stop, self._load, ())
                child.loaded = True
            wall_s = self._clock_factor * timeout_s
            return child.call(timeout_s, wall_s, stop, function, arguments)
        finally:
            if child.alive:
                self._idle.put(child)
            if self._closed.is_set():
                self._kill_idle()

    def _take(self) -> _Child:
        """An idle process that is still there, or a new one."""
        while True:
            try:
                child = self._idle.get_nowait()
            except Empty:
                return _Child(self._memory_bytes)
            if child.is_running:
                return child
            child.kill()

    def _kill_idle(self) -> None:
        while True:
            try:
                self._idle.get_nowait().kill()
            except Empty:
                return


def _our_modules() -> dict[str, str]:
    """Environment in which a process finds this package, whatever its working folder holds."""
    ours = str(Path(__file__).parent.parent)
    path = os.pathsep.join([ours, *filter(None, sys.path)])
    return {"PYTHONPATH": path, "PYTHONSAFEPATH": "1"}


class _Child:
    """One process, as its parent sees it."""

    def __init__(self, memory_bytes: int) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            environment = {name: os.environ[name] for name in _KEPT if name in os.environ}
            environment |= {**_SMALL, **_our_modules()}
            self._process = subprocess.Popen(
                [sys.executable, "-c", _CHILD % (theirs.fileno(), memory_bytes)],
                env=environment,
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
            )
        self._pipe = Connection(ours.detach())
        self.alive = True
        self.loaded = False

    def call(
        self,
        timeout_s: float,
        wall_s: float,
        stop: threading.Event,
        function: Callable[..., T],
        arguments: tuple[Any, ...],
    ) -> T:
        """Run a task to its end; raises what `function` raises, and `TaskLost`."""
        start_s, used_s = time.monotonic(), self._processor_s()
        try:
            self._pipe.send((function, arguments))
            while not self._pipe.poll(_LOOK_S):
                if stop.is_set():
                    raise TaskLost("stopped")
                if self._processor_s() - used_s > timeout_s:
                    raise TaskLost("slow", f"{timeout_s:g} s")
                if time.monotonic() - start_s > wall_s:
                    raise TaskLost("busy", f"{wall_s:g} s")
            succeeded, value = self._pipe.recv()
        except TaskLost:
            self.kill()
            raise
        except (EOFError, OSError):
            raise TaskLost(self._end()) from None
        if succeeded:
            return value
        raise value

    def _end(self) -> Loss:
        """How it ended by itself."""
        with suppress(subprocess.TimeoutExpired):  # it closed its pipe and lives on
            self._process.wait(_GRACE_S)
        code = self._process.poll()
        self.kill()
        return "killed" if code == -signal.SIGKILL else "died"

    @property
    def is_running(self) -> bool:
        return self._process.poll() is None

    def _processor_s(self) -> float:
        """Seconds that its threads ran so far."""
        try:
            with open(f"/proc/{self._process.pid}/stat", "rb") as file:
                user, system = file.read().rpartition(b")")[2].split()[11:13]
        except OSError:
            return 0.0
        return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")

    def kill(self) -> None:
        self.alive = False
        self._pipe.close()
        self._process.kill()
        self._process.wait()


def serve(file_descriptor: int, memory_bytes: int) -> None:
    """Run tasks in a child, until its parent has gone."""
    import cv2

    import engine.results  # noqa: F401  loaded before the memory is bounded

    cv2.setNumThreads(1)  # of its own threads each would reserve memory for its heap
    _bound_memory(memory_bytes)
    pipe = Connection(file_descriptor)
    while True:
        try:
            function, arguments = pipe.recv()
        except (EOFError, OSError):
            return
        try:
            answer = True, function(*arguments)
        except MemoryError:
            answer = False, TaskLost("memory", f"{memory_bytes // 2**20} MiB")
        except Exception as error:
            answer = False, error
        pipe.send_bytes(pickle.dumps(answer))
        del function, arguments, answer


def _bound_memory(memory_bytes: int) -> None:
    """Let what is resident now grow to `memory_bytes`."""
    page = resource.getpagesize()
    with open("/proc/self/statm", "rb") as file:
        size, resident = (int(pages) * page for pages in file.read().split()[:2])
    limit = size + max(memory_bytes - resident, 0)
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
