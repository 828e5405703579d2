"""A row of a manifest as read, whatever the shape of its file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from batch_jobs.manifest.cells import NO_UNICODE, Picture, shown, text
from batch_jobs.manifest.chains import turn_of
from batch_jobs.manifest.columns import OPTIONS
from batch_jobs.manifest.fault import Fault
from engine.errors import EngineError, InstructionEmpty, ManifestInvalid, OptionInvalid
from engine.text import has_lone_surrogate


@dataclass(slots=True)
class Row:
    """Holds one row as it was asked for, with its pictures where the file holds the bytes."""

    id: str | None = None
    chain_id: str | None = None  # rows of one edit each other's pictures, turn by turn
    turn: int | None = None  # from 1
    image: str | None = None  # path or URI
    data: bytes | None = None  # the image's bytes in its place
    references: list[Picture] = field(default_factory=list)  # further images
    mask: str | None = None  # path or URI
    mask_data: bytes | None = None  # the mask's bytes in its place
    instruction: str | None = None
    options: dict[str, Any] = field(default_factory=dict)  # as they were given, not yet checked
    model: str | None = None  # that it asks for
    carried: dict[str, Any] = field(default_factory=dict)  # cells that mean nothing to an edit
    fault: Fault | None = None  # the first reason why it, and no other, cannot be edited

    @classmethod
    def of_columns(cls, cells: Mapping[str, Any], names: Mapping[str, str]) -> Self:
        """Read the row of a table from its cells by column; `names`: what the columns mean."""
        row = cls()
        row.set_options(cells, names)
        setters = {"image": row.set_image, "mask": row.set_mask, "instruction": row.set_instruction}
        for column, value in cells.items():
            if setter := setters.get(names.get(column, "")):
                setter(value)
        return row

    def set_options(self, cells: Mapping[str, Any], names: Mapping[str, str]) -> None:
        """Take the id and the options from the cells of a row, and what means nothing here."""
        for column, value in cells.items():
            name = names.get(column)
            if name is None:
                self.carried[column] = value
            elif name == "id":
                self.set_id(value)
            elif name == "chain_id":
                self.chain_id = _name("chain_id", value)
            elif name == "turn":
                self.turn = turn_of(value)
            elif name in OPTIONS and value not in (None, ""):
                self.options[name] = value
                if isinstance(value, str) and has_lone_surrogate(value):
                    self.refuse(OptionInvalid(f"{name}{NO_UNICODE}", param=name))

    def refuse(self, error: EngineError) -> None:
        """Keep the error, unless there was one before."""
        self.fault = self.fault or Fault.of(error)

    def set_id(self, value: Any) -> None:
        """Raises `ManifestInvalid` for what is neither text nor a whole number."""
        self.id = _name("id", value)

    def set_image(self, value: Any) -> None:
        """Take what `Picture` reads: an image, or a list of several."""
        image, *self.references = Picture.each(value)
        self.image, self.data = image.path, image.data
        for picture in (image, *self.references):
            if picture.error is not None:
                self.refuse(picture.error)

    def set_mask(self, value: Any) -> None:
        """Take what `Picture` reads."""
        mask = Picture.of("mask", value)
        self.mask, self.mask_data = mask.path, mask.data
        if mask.error is not None:
            self.refuse(mask.error)

    def set_instruction(self, value: Any) -> None:
        """Take text, of a list of texts or of a conversation's messages the last; anything else is
        the row's fault."""
        if isinstance(value, list) and value:
            value = value[-1]
            if isinstance(value, dict):
                value = value.get("content", value)
        if isinstance(value, str):
            self.instruction = text(value)
            if has_lone_surrogate(value):
                self.refuse(InstructionEmpty(f"instruction{NO_UNICODE}"))
        elif value is not None:
            self.refuse(InstructionEmpty(f"instruction must be text; got {shown(value)}"))


def _name(column: str, value: Any) -> str | None:
    """Read what names a row or a chain, None where the cell is empty; raises `ManifestInvalid`."""
    if isinstance(value, bool) or not isinstance(value, str | int | None):
        raise ManifestInvalid(f"{column} must be text or a whole number; got {shown(value)}")
    if isinstance(value, str) and has_lone_surrogate(value):
        raise ManifestInvalid(f"{column}{NO_UNICODE}")
    return None if value in (None, "") else text(str(value))
