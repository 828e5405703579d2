"""How much memory a device has left, and how much a piece of work took."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Protocol

import torch

from engine.allocator import trim


class Memory(Protocol):
    """The memory of one device, in bytes."""

    total_bytes: int

    def available_bytes(self) -> int:
        """Return what could still be allocated, beside every other process's use."""

    def start(self) -> None:
        """Begin to measure the peak."""

    def peak_bytes(self) -> int:
        """Return the most that was in use at a time since `start`, above what was in use then."""


class CudaMemory:
    """The memory of a GPU; what torch holds in reserve counts as available. See `Memory`."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._base = 0
        self.total_bytes = torch.cuda.mem_get_info(device)[1]

    def available_bytes(self) -> int:
        """See `Memory`."""
        free, _ = torch.cuda.mem_get_info(self._device)
        reserve = torch.cuda.memory_reserved(self._device)
        return free + reserve - torch.cuda.memory_allocated(self._device)

    def start(self) -> None:
        """See `Memory`."""
        torch.cuda.reset_peak_memory_stats(self._device)
        self._base = torch.cuda.memory_allocated(self._device)

    def peak_bytes(self) -> int:
        """See `Memory`."""
        return max(torch.cuda.max_memory_allocated(self._device) - self._base, 0)


class HostMemory:
    """The memory of this machine, or what the control group leaves of it. See `Memory`.

    The peak is the process's resident set, so `start` gives back what the allocator kept; 0 where
    the kernel does not tell.
    """

    def __init__(self) -> None:
        self._base = 0
        self.total_bytes = min(_meminfo("MemTotal"), _group_bytes("memory.max"))

    def available_bytes(self) -> int:
        """See `Memory`."""
        used = _group_bytes("memory.current", missing=0) - _group_cache_bytes()
        return max(min(_meminfo("MemAvailable"), self.total_bytes - used), 0)

    def start(self) -> None:
        """See `Memory`."""
        trim()
        try:
            Path("/proc/self/clear_refs").write_text("5")  # proc(5): resets VmHWM
            self._base = _status("VmRSS")
        except OSError:  # a sandbox without it
            self._base = 2**62

    def peak_bytes(self) -> int:
        """See `Memory`."""
        return max(_status("VmHWM") - self._base, 0)


def memory_of(device: torch.device) -> Memory:
    """Return the memory that work on `device` takes."""
    return CudaMemory(device) if device.type == "cuda" else HostMemory()


def _meminfo(name: str) -> int:
    return _kilobytes("/proc/meminfo", name)


def _status(name: str) -> int:
    return _kilobytes("/proc/self/status", name)


def _kilobytes(file: str, name: str) -> int:
    """A line "Name:   123 kB" in bytes."""
    found = re.search(rf"^{name}:\s+(\d+) kB", Path(file).read_text(), re.MULTILINE)
    return 1024 * int(found[1]) if found else 0


def _group_bytes(file: str, missing: int = 2**62) -> int:
    """A figure of this process's control group (version 2)."""
    try:
        return int(_group_file(file))
    except (OSError, ValueError):
        return missing  # no group, or its limit is "max"


def _group_cache_bytes() -> int:
    """What the group uses for files that it could drop at once."""
    try:
        found = re.search(r"^inactive_file (\d+)", _group_file("memory.stat"), re.MULTILINE)
    except OSError:
        return 0
    return int(found[1]) if found else 0


def _group_file(name: str) -> str:
    group = Path("/proc/self/cgroup").read_text().rpartition("::")[2].strip()
    return (Path("/sys/fs/cgroup") / group.lstrip("/") / name).read_text()
