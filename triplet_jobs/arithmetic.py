"""The kinds of edit that are arithmetic: those of pocket (`training.kinds`), and further ones."""

from __future__ import annotations

import hashlib
from functools import cache
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

from engine.errors import OptionInvalid
from engine.fields import nearest

_OF_PIXELS = (
    "kinds",
    "edits",
    "local_edits",
    "further_kinds",
)  # the modules that a picture depends on


def training(name: str) -> ModuleType:
    """Import a module of `training`; raises `OptionInvalid` where what it needs is missing."""
    try:
        return import_module(f"training.{name}")
    except ModuleNotFoundError as error:
        raise OptionInvalid(
            f"grammar and programmatic need {error.name}: pip install 'rayedit[training]'"
        ) from None


def all_kinds() -> list[str]:
    """Name every kind that pocket was trained on."""
    return list(training("kinds").KINDS)


def find_kind(name: str) -> Any:
    """Find a kind, also one that pocket was not trained on; raises `KeyError`."""
    return training("further_kinds").KINDS_AND_FURTHER[name]


def check_kind(name: str | None) -> None:
    """Raises `OptionInvalid` for a kind that there is not, or none."""
    known = list(training("further_kinds").KINDS_AND_FURTHER)
    if name is None:
        raise OptionInvalid(
            "programmatic edits have a kind, and this instruction names none: give it in the "
            "column kind, or leave instruction out",
            param="kind",
        )
    if name not in known:
        raise OptionInvalid(f'no kind "{name}". {nearest(name, known)}', param="kind")


@cache
def arithmetic_digest() -> str:
    """Digest the source of the arithmetic: what its pictures depend on."""
    digest = hashlib.sha256()
    for name in _OF_PIXELS:
        digest.update(Path(training(name).__file__ or "").read_bytes())
    return digest.hexdigest()
