"""Ledger rows as the rows of a table for people: CSV or an Excel workbook."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, fields
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from batch_jobs.ledger.entry import Entry, from_ledger
from batch_jobs.ledger.layout import published_path
from batch_jobs.manifest.carried import carried_values
from batch_jobs.manifest.table import csv_of
from batch_jobs.manifest.workbook import workbook_of
from engine.edit import PairScores
from engine.options import EditOptions
from storage.location import located
from storage.storage import Storage

HEAD = ("id", "image", "instruction", "status", "error_code", "error_message")
CHAIN = ("chain_id", "turn")
SIZE = ("width_px", "height_px")
JUDGED = ("filtered", *(field.name for field in fields(PairScores)))  # of a pair
GUIDED = ("tries", "scales")  # of an edit whose guidance set itself
BEHIND = ("warnings", "understood_as", *SIZE)


class PeoplesTable:
    """A row for each row of a ledger: what was asked, what came of it, and what was carried."""

    def __init__(self, storage: Storage, base: str, table: pa.Table) -> None:
        self._storage, self._base, self._table = storage, base, table
        carried = [carried_values(one) for one in table["carried"].to_pylist()]
        self._carried = carried
        most = max((len(outputs or ()) for outputs in table["outputs"].to_pylist()), default=0)
        outputs = [f"output_{number}" if number > 1 else "output" for number in range(1, most + 1)]
        some = (*CHAIN, *EditOptions.model_fields)
        judged = JUDGED if table["scores"].null_count < len(table) else ()
        given = (n for n in some if table[n].null_count < len(table))
        guided = GUIDED if pc.any(pc.not_equal(table["auto_guidance"], "off")).as_py() else ()
        own = [*HEAD, *outputs, *given, *judged, *guided, *BEHIND]
        names = dict.fromkeys(name for values in carried for name in values)
        # a column of the manifest that is called as one of ours is
        self._shown = {name: f"{name} (manifest)" if name in own else name for name in names}
        self.head = [*own, *self._shown.values()]

    def rows(self) -> Iterator[list[Any]]:
        """Yield the cells of each row, in the order of `head`."""
        entries = from_ledger(self._table)
        for row, entry, carried in zip(
            self._table.to_pylist(), entries, self._carried, strict=True
        ):
            uris = [self._storage.uri(published_path(out.uri)) for out in entry.outputs or ()]
            first = next(iter(entry.outputs or ()), None)
            told = (*HEAD, *CHAIN, *EditOptions.model_fields)
            cells = {name: row[name] for name in told if name in row}
            cells["image"] = located(entry.source, self._base) if entry.source else ""
            cells |= {f"output_{n}" if n > 1 else "output": uri for n, uri in enumerate(uris, 1)}
            cells["warnings"] = ", ".join(entry.warnings or ())
            cells["understood_as"] = entry.understood_as
            cells |= {} if first is None else {name: getattr(first, name) for name in SIZE}
            cells |= _guided(entry)
            cells["filtered"] = entry.filtered
            cells |= {} if entry.scores is None else asdict(entry.scores)
            cells |= {self._shown[name]: _plain(value) for name, value in carried.items()}
            yield [cells.get(name) for name in self.head]

    def as_csv(self) -> bytes:
        """Write it as Excel reads it."""
        return csv_of(self.head, self.rows())

    def as_xlsx(self) -> bytes:
        """Write it as a workbook; raises `OutputUnusable` for what Excel cannot hold."""
        return workbook_of(self.head, self.rows())


def _guided(entry: Entry) -> dict[str, Any]:
    """Tell the tries of an edit whose guidance set itself, and the scales: text / image."""
    report = entry.outputs[0].edit_report if entry.outputs else None
    if report is None or report.guided is None:
        return {}
    guided = report.guided
    scales = f"{guided.guidance_scale:g} / {guided.image_guidance_scale:g}"
    return dict(zip(GUIDED, (guided.tries, scales), strict=True))


def _plain(value: Any) -> Any:
    """Write a list or an object as JSON."""
    if isinstance(value, str | int | float | None):
        return value
    return json.dumps(value, ensure_ascii=False)
