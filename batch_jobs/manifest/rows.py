"""A row of a manifest as read, whatever the shape of its file, and its options once planned."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

import pyarrow as pa

from batch_jobs.manifest.columns import ALIASES, OPTIONS
from engine.errors import (
    EngineError,
    ImageMissing,
    ImageNotFound,
    InstructionEmpty,
    InternalError,
    ManifestInvalid,
    ModelUnknown,
    OptionInvalid,
    OptionUnknown,
    RequestError,
    error_classes,
)
from engine.options import EditOptions
from engine.registry import ModelSpec
from engine.sources import read_data_url
from engine.text import has_lone_surrogate
from engine.wire import EditBody

# What is read of a file. `image_sha256` in the place of `image` where the file holds the bytes,
# under `row_group` and `row`: its number there, or in JSONL the byte at which its line starts.
THIN = pa.schema(
    [
        ("id", pa.string()),
        ("image", pa.string()),
        ("image_sha256", pa.string()),
        ("row_group", pa.int32()),
        ("row", pa.int64()),
        ("instruction", pa.string()),
        ("options", pa.string()),
    ]
)
ROWS_PER_CHUNK = 8192
_ENCODER = json.JSONEncoder(sort_keys=True, default=str)
# How an option's message begins.
_NAMED = re.compile(r'(?:unknown field "|this server does not support )?(\w+)')
_NO_UNICODE = " is not valid Unicode (a lone surrogate)"
FAULT, MODEL = "fault", "model"  # beside a row's options: what is wrong with it, whom it asks for


@dataclass(slots=True)
class Row:
    """`image`: a path or URI; `data`: the image's bytes in its place. `options` as they were
    given, not yet checked."""

    id: str | None = None
    image: str | None = None
    data: bytes | None = None
    instruction: str | None = None
    options: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def of_columns(cls, cells: Mapping[str, Any]) -> Self:
        """The row of a table, from its cells by column."""
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
        """The id and the options among the cells of a row."""
        for column, value in cells.items():
            name = ALIASES.get(column, column)
            if name == "id":
                self.set_id(value)
            elif name in OPTIONS and value not in (None, ""):
                self.options[name] = value
                if isinstance(value, str) and has_lone_surrogate(value):
                    self.refuse(OptionInvalid(f"{name}{_NO_UNICODE}", param=name))

    def refuse(self, error: EngineError) -> None:
        """Remember the first reason why this row, and no other, cannot be edited."""
        reason = {"code": error.code, "message": error.message, "param": error.param}
        self.options.setdefault(FAULT, reason)

    def set_id(self, value: Any) -> None:
        """Raises `ManifestInvalid` for what is neither text nor a whole number."""
        if isinstance(value, bool) or not isinstance(value, str | int | None):
            raise ManifestInvalid(f"id must be text or a whole number; got {_shown(value)}")
        if isinstance(value, str) and has_lone_surrogate(value):
            raise ManifestInvalid(f"id{_NO_UNICODE}")
        self.id = None if value in (None, "") else text(str(value))

    def set_image(self, value: Any) -> None:
        """A path or URI, a data URL, or {"path": one of them}."""
        if isinstance(value, dict):
            value = value.get("path")
        if value is None or value == "":
            return
        if not isinstance(value, str):
            self.refuse(ImageMissing(f"image must be a path or URI; got {_shown(value)}"))
        elif is_data_url(value):
            try:
                self.data = read_data_url(value)
            except RequestError as error:
                self.refuse(error)
        else:
            self.image = text(value)
            if has_lone_surrogate(value):
                self.refuse(ImageNotFound(f"image{_NO_UNICODE}"))

    def set_instruction(self, value: Any) -> None:
        if isinstance(value, str):
            self.instruction = text(value)
            if has_lone_surrogate(value):
                self.refuse(InstructionEmpty(f"instruction{_NO_UNICODE}"))
        elif value is not None:
            self.refuse(InstructionEmpty(f"instruction must be text; got {_shown(value)}"))


@dataclass(frozen=True, slots=True)
class FileRows:
    """`rows`: a table of `THIN`; `names`: column of the file -> what it means here; `ignored`: the
    columns that mean nothing to an edit."""

    rows: pa.Table
    names: dict[str, str]
    ignored: list[str]


class ThinRows:
    """Rows on their way into a table of `THIN`; the images are hashed and forgotten."""

    def __init__(self) -> None:
        self._chunks: list[pa.Table] = []
        self._pending: list[dict[str, Any]] = []

    def add(self, row: Row, place: int) -> None:
        self._pending.append(
            {
                "id": row.id,
                "image": row.image,
                "image_sha256": None if row.data is None else sha256(row.data),
                "row_group": 0,
                "row": place,
                "instruction": row.instruction,
                "options": options_json(row.options),
            }
        )
        if len(self._pending) >= ROWS_PER_CHUNK:
            self._flush()

    def table(self) -> pa.Table:
        self._flush()
        return pa.concat_tables(self._chunks)

    def _flush(self) -> None:
        self._chunks.append(pa.Table.from_pylist(self._pending, schema=THIN))
        self._pending = []


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def text(value: str) -> str:
    """`value` that Arrow can hold: a lone surrogate is not text."""
    return value if value.isprintable() else value.encode("utf-8", "replace").decode()


def is_data_url(value: str) -> bool:
    return value[:5].lower() == "data:"


def _shown(value: Any) -> str:
    shown = json.dumps(value)
    return shown if len(shown) <= 80 else shown[:77] + "..."


def options_json(values: Mapping[str, Any]) -> str:
    """The given options as canonical JSON; whole floats become integers (pandas widens them), and
    true and false become text, which no number is read from."""
    given = {name: _canonical(value) for name, value in values.items() if value is not None}
    return _ENCODER.encode(given)


def _canonical(value: Any) -> Any:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and math.isfinite(value) and value == int(value):
        return int(value)
    if isinstance(value, str):
        return text(value)
    return value


def planned_options(planned: str, spec: ModelSpec) -> EditOptions:
    """The options of a planned row, as `options_json` wrote them; raises `RequestError`."""
    values = json.loads(planned)
    if (fault := values.pop(FAULT, None)) is not None:
        raise error_of(fault["code"], fault["message"], fault["param"])
    if (model := values.pop(MODEL, None)) not in (None, spec.name):
        raise ModelUnknown(
            f'the row asks for the model "{model}", the job runs "{spec.name}": give the job '
            "--model, or leave model out",
            param="model",
        )
    return EditOptions.parse(values, strict=False)


def error_of(code: str, message: str, param: str | None = None) -> EngineError:
    """The error that a ledger row or a planned one tells of; an option's message names it."""
    kind = {error.code: error for error in error_classes()}.get(code, InternalError)
    error = kind(message)
    if param is None and isinstance(error, RequestError) and (named := _NAMED.match(message)):
        known = {*EditOptions.model_fields, *EditBody.model_fields, "file_id"}
        param = named[1] if kind is OptionUnknown or named[1] in known else None
    error.param = param or error.param
    return error
