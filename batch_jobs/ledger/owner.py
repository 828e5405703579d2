"""The process that owns an output, and whether it still lives."""

from __future__ import annotations

import json
import os
import socket
import uuid
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import psutil

BOOT_ID = "/proc/sys/kernel/random/boot_id"
ENDED = ("Z", "X", psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD)


def _machine() -> str:
    """Name what numbers its processes alone: one boot of one host, and each of its containers,
    which may share its host name."""
    if not os.path.exists(BOOT_ID):  # macOS
        return socket.gethostname()
    return f"{Path(BOOT_ID).read_text().strip()}/{os.readlink('/proc/self/ns/pid')}"


def _process_start(pid: int) -> str | None:
    """Tell a process from others that had or will have its pid: by the ticks from the boot to its
    start, which no clock moves. None where no such process runs, or only its entry is left because
    its parent has not asked for it."""
    try:
        if not os.path.exists(BOOT_ID):  # macOS
            process = psutil.Process(pid)
            return None if process.status() in ENDED else str(process.create_time())
        state, *values = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return None if state in ENDED else values[18]
    except (psutil.NoSuchProcess, FileNotFoundError, ProcessLookupError):
        return None


@dataclass(frozen=True, slots=True)
class Owner:
    """A process that owns an output, or owned it; by default this one."""

    host: str = field(default_factory=socket.gethostname)
    """The machine's name, for people."""
    machine: str = field(default_factory=_machine)
    """What numbers its processes: pids can be compared where it is the same."""
    pid: int = field(default_factory=os.getpid)
    process_start: str | None = field(default_factory=lambda: _process_start(os.getpid()))
    """What tells it from other processes of its pid."""
    token: str = field(default_factory=lambda: uuid.uuid4().hex)
    """What tells its leases apart."""
    beat: int = 0
    """Counted up while it lives."""
    has_left: bool = False
    """It has given the output back."""

    @classmethod
    def of_json(cls, data: bytes) -> Owner:
        """Read an owner from its file; what a later version has added is left out."""
        found: dict[str, Any] = json.loads(data)
        return cls(**{name.name: found[name.name] for name in fields(cls) if name.name in found})

    def as_json(self) -> bytes:
        """Write an owner as `of_json` reads it."""
        return json.dumps(asdict(self)).encode()

    def is_local(self) -> bool:
        """Tell whether its pid means the same process here."""
        return self.machine == _machine()

    def runs(self) -> bool:
        """Tell whether a local owner's process has not ended."""
        return _process_start(self.pid) == self.process_start
