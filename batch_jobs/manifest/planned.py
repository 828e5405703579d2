"""A row of a plan: what a job knows of an edit before anything is decoded."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from batch_jobs.manifest.cells import text
from batch_jobs.manifest.fault import Fault
from batch_jobs.manifest.place import Place
from batch_jobs.records import from_table, schema_of
from engine.errors import ModelUnknown
from engine.options import EditOptions
from engine.spec import ModelSpec

_ENCODER = json.JSONEncoder(sort_keys=True, default=str)


@dataclass(frozen=True, slots=True)
class PlannedReference:
    """Names a further image of an edit."""

    path: str | None  # or URI
    sha256: str | None  # in its place where the file holds the bytes


@dataclass(frozen=True, slots=True)
class PlannedRow:
    """Holds one edit as it was asked for: nothing of it is checked but its types."""

    file: str  # of the manifest, that holds the row
    id: str
    image: str | None  # path or URI
    image_sha256: str | None  # in its place where the file holds the bytes
    mask: str | None  # path or URI; None where all of the image may be edited
    mask_sha256: str | None  # in its place where the file holds the bytes
    row_group: int  # see `Place`
    row: int
    instruction: str | None
    options: str  # those that were given, as `options_json` writes them
    model: str | None  # that the row asks for
    fault: Fault | None  # the first reason why it cannot be edited, known from reading it
    references: tuple[PlannedReference, ...] = ()  # further images
    carried: str | None = (
        None  # columns that mean nothing to an edit, as `Carried.json` writes them
    )
    chain_id: str | None = None  # rows of one edit each other's pictures
    turn: int | None = None  # from 1: a later one has no image, but the picture of the one before
    fingerprint: str = ""  # what its result depends on
    attempts: int = 1  # with this one

    @property
    def place(self) -> Place | None:
        """Locate the image in the manifest; None where that names it, or there is none."""
        return self._place(self.image, self.image_sha256)

    @property
    def mask_place(self) -> Place | None:
        """Locate the mask in the manifest; None where that names it, or there is none."""
        return self._place(self.mask, self.mask_sha256)

    @property
    def held_place(self) -> Place | None:
        """Locate what the manifest holds of the row; None where it holds no picture."""
        held = [self._place(one.path, one.sha256) for one in self.references]
        return next(filter(None, (self.place, self.mask_place, *held)), None)

    def _place(self, path: str | None, sha256: str | None) -> Place | None:
        if path is not None or sha256 is None:
            return None
        return Place(self.file, self.row_group, self.row)

    def edit_options(self, spec: ModelSpec) -> EditOptions:
        """Parse the options; raises the row's fault, `ModelUnknown` or `OptionError`."""
        if self.fault is not None:
            raise self.fault.error()
        check_model(self.model, spec)
        return parse_options(self.options)


JOB_COLUMNS = ("fingerprint", "attempts")  # that a job adds to a plan
PLAN = pa.schema([field for field in schema_of(PlannedRow) if field.name not in JOB_COLUMNS])


def planned_rows(plan: pa.Table) -> list[PlannedRow]:
    """Read the rows of a plan."""
    return from_table(PlannedRow, plan)


def reference_paths(plan: pa.Table) -> pa.ChunkedArray:
    """List the paths of all further images of a plan, null where the manifest holds one."""
    return pc.struct_field(pc.list_flatten(plan["references"]), "path")


def check_model(model: str | None, spec: ModelSpec) -> None:
    """Raises `ModelUnknown` where a row asks for another model than the job's."""
    if model not in (None, spec.name):
        raise ModelUnknown(
            f'the row asks for the model "{model}", the job runs "{spec.name}": give the job '
            "--model, or leave model out",
            param="model",
        )


def parse_options(planned: str) -> EditOptions:
    """Read what `options_json` wrote; raises `OptionError`."""
    return EditOptions.parse(json.loads(planned), strict=False)


def options_json(values: Mapping[str, Any]) -> str:
    """Write the given options as canonical JSON, unchecked: a cell may hold anything.

    Whole floats become integers (pandas widens them), and true and false become text, which no
    number is read from.
    """
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
