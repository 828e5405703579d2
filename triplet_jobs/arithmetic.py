"""The kinds of edit that are arithmetic, as pocket was trained on them: `training.kinds`."""

from __future__ import annotations

import hashlib
from functools import cache
from importlib import import_module
from pathlib import Path
from types import ModuleType

from engine.errors import OptionInvalid
from engine.fields import nearest

_OF_PIXELS = ("kinds", "edits", "local_edits")  # the modules that a picture depends on


def training(name: str) -> ModuleType:
    """Import a module of `training`; raises `OptionInvalid` where what it needs is missing."""
    try:
        return import_module(f"training.{name}")
    except ModuleNotFoundError as error:
        raise OptionInvalid(
            f"grammar and programmatic need {error.name}: pip install 'rayedit[training]'"
        ) from None


def all_kinds() -> list[str]:
    """Name every kind."""
    return list(training("kinds").KINDS)


def check_kind(name: str | None) -> None:
    """Raises `OptionInvalid` for a kind that there is not, or none."""
    known = all_kinds()
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
