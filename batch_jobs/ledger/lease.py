"""One job at a time for one output: a lease that names its holder and beats while it lives."""

from __future__ import annotations

import json
import logging
import os
import socket
import threading
import time
import uuid
from itertools import count
from pathlib import Path
from typing import Any, Self

import psutil

from batch_jobs.storage.storage import Storage
from engine.errors import OutputBusy

logger = logging.getLogger(__name__)

PATH = "lease.json"
BOOT_ID = "/proc/sys/kernel/random/boot_id"
ENDED = ("Z", "X", psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD)
BEAT_EVERY_S = 5.0
DEAD_AFTER_S = 30.0  # six beats: a remote holder that missed them is gone


class Lease:
    """Held for the length of a `with` block; raises `OutputBusy` naming a living holder.

    A holder of this machine is looked up by pid and start. Any other is watched: if its beat stands
    still for `dead_after_s`, it is dead. No clocks are compared.
    """

    def __init__(
        self,
        storage: Storage,
        dead_after_s: float = DEAD_AFTER_S,
        beat_every_s: float = BEAT_EVERY_S,
    ) -> None:
        self._storage = storage
        self._beat_every_s = beat_every_s
        self._dead_after_s = dead_after_s
        self._token = uuid.uuid4().hex
        self._beat = 0
        self._lost = False
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._keep_beating, name="lease", daemon=True)

    def __enter__(self) -> Self:
        holder = self._read()
        if holder is not None and self.is_alive(holder):
            raise OutputBusy(
                f"{self._storage.url} is in use by process {holder['pid']} on {holder['host']}; "
                "wait for it, or give another output"
            )
        if holder is not None:
            self._bury(holder)
        self._storage.publish_new(PATH, self._content())
        if not self._is_mine():
            raise self._taken()
        self._thread.start()
        return self

    def _bury(self, holder: dict[str, Any]) -> None:
        """Remove a dead holder's lease. Of many who try, the one who is first to leave a note of
        its death may, so that nobody removes the lease of the next one. Who died between the note
        and the removal is followed by who leaves the next note."""
        for number in count():
            note = f"journal/dead-{holder['token']}-{number}"
            self._storage.publish_new(note, self._content())
            author = self.holder(self._storage, note)
            if author is not None and author["token"] == self._token:
                break
            if author is None or self._is_burying(author, holder):
                raise self._taken()
        if self._is_held_by(holder):
            self._storage.remove(PATH)

    def _is_burying(self, author: dict[str, Any], holder: dict[str, Any]) -> bool:
        """Whether the author of a note lives, or has made room for the next lease meanwhile."""
        if _is_local(author):
            return not _is_dead(author)
        time.sleep(self._dead_after_s)  # far more than it takes
        return not self._is_held_by(holder)

    def _is_held_by(self, holder: dict[str, Any]) -> bool:
        return (now := self._read()) is not None and now["token"] == holder["token"]

    def _taken(self) -> OutputBusy:
        return OutputBusy(f"another job took {self._storage.url} at the same moment")

    def check(self) -> None:
        """Raises `OutputBusy` where the lease was lost, as after a standstill of this process: it
        is looked at anew, since the beat stood still too."""
        if self._lost or not self._is_mine():
            raise OutputBusy(f"another job has taken {self._storage.url} over meanwhile")

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()
        if self._is_mine():
            self._storage.remove(PATH)

    def is_alive(self, holder: dict[str, Any]) -> bool:
        """Whether a holder lives, or has made room for another; one from elsewhere is watched."""
        if _is_local(holder):
            return not _is_dead(holder)
        deadline = time.monotonic() + self._dead_after_s
        while time.monotonic() < deadline:
            time.sleep(min(1.0, self._dead_after_s / 5))
            now = self._read()
            if now is None or now["token"] != holder["token"]:
                return now is not None
            if now["beat"] != holder["beat"]:
                return True
        return False

    def _keep_beating(self) -> None:
        while not self._done.wait(self._beat_every_s):
            self._beat += 1
            try:
                if not self._is_mine():
                    self._lost = True
                    return
                self._storage.publish(PATH, self._content())
            except Exception:  # storage may come back before anybody takes over
                logger.warning("the lease could not be renewed", exc_info=True)

    def _is_mine(self) -> bool:
        return self._is_held_by({"token": self._token})

    @staticmethod
    def holder(storage: Storage, path: str = PATH) -> dict[str, Any] | None:
        """Who holds the lease of an output, alive or not."""
        try:
            return json.loads(storage.read(path))
        except FileNotFoundError:
            return None

    def _read(self) -> dict[str, Any] | None:
        return self.holder(self._storage)

    def _content(self) -> bytes:
        holder = {
            "host": socket.gethostname(),
            "machine": _machine(),
            "pid": os.getpid(),
            "process_start": _process_start(os.getpid()),
            "token": self._token,
            "beat": self._beat,
        }
        return json.dumps(holder).encode()


def _is_local(holder: dict[str, Any]) -> bool:
    """Whether a holder's pid means the same here."""
    return holder.get("machine") == _machine()


def _is_dead(holder: dict[str, Any]) -> bool:
    return _process_start(holder["pid"]) != holder["process_start"]


def _machine() -> str:
    """What numbers its processes alone: a boot of a host, and of its containers, which may share
    its name, each."""
    if not os.path.exists(BOOT_ID):  # macOS
        return socket.gethostname()
    return f"{Path(BOOT_ID).read_text().strip()}/{os.readlink('/proc/self/ns/pid')}"


def _process_start(pid: int) -> str | None:
    """What tells a process from others that had or will have its pid: the ticks from the boot to
    its start, which no clock moves; None where there is no such process, or only its entry is
    left, for a parent that does not ask."""
    try:
        if not os.path.exists(BOOT_ID):  # macOS
            process = psutil.Process(pid)
            return None if process.status() in ENDED else str(process.create_time())
        state, *fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return None if state in ENDED else fields[18]
    except (psutil.NoSuchProcess, FileNotFoundError, ProcessLookupError):
        return None
