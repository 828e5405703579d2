"""Safetensors files that cannot be opened, and what to do about it."""

from __future__ import annotations

from pathlib import Path

_LFS_POINTER = b"version https://git-lfs"  # how such a file begins


def file_damage(path: Path) -> str | None:
    """Say why a safetensors file cannot be opened, as what comes behind its name.

    None where it is as long as its header says. Raises nothing.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy"):
            return None
    except (OSError, SafetensorError) as error:
        if start_of(path, len(_LFS_POINTER)) == _LFS_POINTER:
            return "is Git LFS' pointer to the weights: run `git lfs pull` there"
        return f"is damaged, or no safetensors file ({error}): copy or fetch it again"


def start_of(path: Path, count: int) -> bytes:
    """Read the first `count` bytes; empty where the file cannot be read."""
    try:
        with path.open("rb") as file:
            return file.read(count)
    except OSError:
        return b""
