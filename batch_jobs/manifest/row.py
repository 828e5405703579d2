"""A row of a manifest as read, whatever the shape of its file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from batch_jobs.manifest.columns import ALIASES, OPTIONS
from batch_jobs.manifest.fault import Fault
from engine.errors import (
    EngineError,
    ImageMissing,
    ImageNotFound,
    InstructionEmpty,
    ManifestInvalid,
    OptionInvalid,
    RequestError,
)
from engine.sources import read_data_url
from engine.text import has_lone_surrogate

_NO_UNICODE = " is not valid Unicode (a lone surrogate)"


@dataclass(slots=True)
class Row:
    """Holds one row as it was asked for, with its image where the file holds the bytes."""

    id: str | None = None
    image: str | None = None  # path or URI
    data: bytes | None = None  # the image's bytes in its place
    instruction: str | None = None
    options: dict[str, Any] = field(default_factory=dict)  # as they were given, not yet checked
    model: str | None = None  # that it asks for
    fault: Fault | None = None  # the first reason why it, and no other, cannot be edited

    @classmethod
    def of_columns(cls, cells: Mapping[str, Any]) -> Self:
        """Read the row of a table from its cells by column."""
        row = cls()
        row.set_options(cells)
        for column, value in cells.items():
            name = ALIASES.get(column, column)
            if name == "image":
                row.set_image(value)
            elif name == "instruction":
                row.set_instruction(value)
        return row

    def set_options(self, cells: Mapping[str, Any]) -> None:
        """Take the id and the options from the cells of a row."""
        for column, value in cells.items():
            name = ALIASES.get(column, column)
            if name == "id":
                self.set_id(value)
            elif name in OPTIONS and value not in (None, ""):
                self.options[name] = value
                if isinstance(value, str) and has_lone_surrogate(value):
                    self.refuse(OptionInvalid(f"{name}{_NO_UNICODE}", param=name))

    def refuse(self, error: EngineError) -> None:
        """Keep the error, unless there was one before."""
        self.fault = self.fault or Fault.of(error)

    def set_id(self, value: Any) -> None:
        """Raises `ManifestInvalid` for what is neither text nor a whole number."""
        if isinstance(value, bool) or not isinstance(value, str | int | None):
            raise ManifestInvalid(f"id must be text or a whole number; got {_shown(value)}")
        if isinstance(value, str) and has_lone_surrogate(value):
            raise ManifestInvalid(f"id{_NO_UNICODE}")
        self.id = None if value in (None, "") else text(str(value))

    def set_image(self, value: Any) -> None:
        """Take a path or URI, a data URL, or {"path": one of them}."""
        if isinstance(value, dict):
            value = value.get("path")
        if value is None or value == "":
            return
        if not isinstance(value, str):
            self.refuse(ImageMissing(f"image must be a path or URI; got {_shown(value)}"))
        elif value[:5].lower() == "data:":
            try:
                self.data = read_data_url(value)
            except RequestError as error:
                self.refuse(error)
        else:
            self.image = text(value)
            if has_lone_surrogate(value):
                self.refuse(ImageNotFound(f"image{_NO_UNICODE}"))

    def set_instruction(self, value: Any) -> None:
        """Take text; anything else is the row's fault."""
        if isinstance(value, str):
            self.instruction = text(value)
            if has_lone_surrogate(value):
                self.refuse(InstructionEmpty(f"instruction{_NO_UNICODE}"))
        elif value is not None:
            self.refuse(InstructionEmpty(f"instruction must be text; got {_shown(value)}"))


def text(value: str) -> str:
    """Make text that Arrow can hold: a lone surrogate becomes a question mark."""
    return value if value.isprintable() else value.encode("utf-8", "replace").decode()


def _shown(value: Any) -> str:
    shown = json.dumps(value)
    return shown if len(shown) <= 80 else shown[:77] + "..."
