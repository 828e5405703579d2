"""A row of the ledger: what was asked of a row of the manifest, and what came of it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal, Self

import pyarrow as pa
import pyarrow.compute as pc

from batch_jobs.manifest.fault import Fault
from batch_jobs.manifest.place import Place
from batch_jobs.manifest.planned import PlannedRow
from batch_jobs.records import from_table, schema_of, to_table
from engine.edit import EditFailure, EditReport, Look, PairScores
from engine.options import ResolvedOptions

Status = Literal["ok", "error"]


@dataclass(frozen=True, slots=True)
class Output:
    """Describes an edited image, as it was published."""

    uri: str
    sha256: str  # of the file's bytes
    width_px: int
    height_px: int
    seed: int
    edit_report: EditReport | None = None  # where something of the source was to be kept
    mask_uri: str | None = None  # where the edit changed the image, where `return_mask` asks for it
    source_uri: str | None = None  # the source as the model saw it, where the job makes pairs
    # on the canvas, where the edit has a style
    source_look: Look | None = None
    look: Look | None = None


@dataclass(slots=True)
class Entry:
    """Holds a ledger row, from the first stage of its edit to the end of its job."""

    id: str  # the manifest's
    status: Status = "ok"
    error_code: str | None = None  # of docs/errors.md
    error_message: str | None = None
    error_param: str | None = None  # the option or field that was wrong, if one was
    attempts: int = 1  # how often the row was run
    instruction: str | None = None
    instruction_used: str | None = None  # what the model read, where it was translated
    options: ResolvedOptions | None = None  # None where they are wrong
    determinism: str | None = None
    model: str | None = None
    model_revision: str | None = None
    fingerprint: str = ""  # what the result depends on
    source: str | None = None  # path or URI of the image, as the manifest names it
    place: Place | None = None  # in its stead, where the manifest holds the bytes
    source_sha256: str | None = None  # of the source's bytes
    # paths or URIs of further images, as the manifest names them; None where it holds the bytes
    references: list[str | None] = field(default_factory=list)
    mask: str | None = None  # path or URI, as the manifest names it
    chain_id: str | None = None  # of rows that edit each other's pictures
    turn: int | None = None  # from 1; the source of a later one is the picture of the one before
    carried: str | None = None  # columns that mean nothing to an edit, as a JSON object
    outputs: list[Output] = field(default_factory=list)
    scores: PairScores | None = None  # where the job makes pairs
    filtered: str | None = None  # which score kept a pair out of them, or `not_among_best`
    warnings: list[str] = field(default_factory=list)  # codes of what was softened
    understood_as: str | None = None  # the edit that was made, where the instruction is not known
    batch_size: int | None = None  # the most samples that shared a model call with it
    model_s: float | None = None  # from its first model call to its last
    finished_at: datetime | None = None  # when it was committed

    @classmethod
    def of(cls, row: PlannedRow) -> Self:
        """Begin the ledger row of a planned one."""
        return cls(
            row.id,
            attempts=row.attempts,
            instruction=row.instruction,
            fingerprint=row.fingerprint,
            source=row.image,
            place=row.place,
            source_sha256=row.image_sha256,
            references=[reference.path for reference in row.references],
            mask=row.mask,
            chain_id=row.chain_id,
            turn=row.turn,
            carried=row.carried,
        )

    def fail(self, failure: EditFailure) -> None:
        """Make it an error row."""
        self.status = "error"
        self.error_code, self.error_message = failure.code, failure.message
        self.error_param = failure.param

    @property
    def fault(self) -> Fault | None:
        """Say why there is no edit; None where there is one."""
        if self.status == "ok":
            return None
        return Fault(self.error_code or "", self.error_message or "", self.error_param)


OPTIONS = "options"  # the field whose own fields are columns of the ledger
_NESTED = schema_of(Entry)
_AT = _NESTED.get_field_index(OPTIONS)
_OPTION_COLUMNS = list(_NESTED.field(_AT).type)
# The columns of the ledger: the fields of `Entry`, and in the place of its options each of them.
SCHEMA = pa.schema([*list(_NESTED)[:_AT], *_OPTION_COLUMNS, *list(_NESTED)[_AT + 1 :]])


def to_ledger(entries: Iterable[Entry]) -> pa.Table:
    """Write ledger rows as a table with the columns of `SCHEMA`."""
    table = to_table(Entry, entries)
    options = table[OPTIONS].combine_chunks().flatten()
    columns = [*table.columns[:_AT], *options, *table.columns[_AT + 1 :]]
    return pa.Table.from_arrays(columns, schema=SCHEMA)


def from_ledger(table: pa.Table) -> list[Entry]:
    """Read ledger rows from a table with the columns of `SCHEMA`."""
    options = [table[column.name].combine_chunks() for column in _OPTION_COLUMNS]
    has_none = pc.is_null(table["num_images"]).combine_chunks()  # each resolved edit has a number
    nested = pa.StructArray.from_arrays(options, fields=_OPTION_COLUMNS, mask=has_none)
    return from_table(Entry, table.append_column(OPTIONS, nested))
