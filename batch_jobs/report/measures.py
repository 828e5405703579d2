"""What the edits of a job measured, each measure as a histogram over its images."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from engine.edit import Measured

BINS = 24


@dataclass(frozen=True, slots=True)
class Distribution:
    """How a measure lies over the images that have it."""

    name: str
    images: int
    least: float
    median: float
    greatest: float
    counts: list[int]  # in `BINS` equal steps from least to greatest


def distributions(ok: pa.Table) -> list[Distribution]:
    """Sum up the measures of all images of ledger rows; none where none was measured."""
    reports = pc.struct_field(pc.list_flatten(ok["outputs"]), "edit_report")
    measured = pc.struct_field(reports, "measured").drop_null()
    return list(_of_each(measured)) if len(measured) else []


def _of_each(measured: pa.ChunkedArray) -> Iterator[Distribution]:
    for field in fields(Measured):
        values = pc.struct_field(measured, field.name).drop_null().to_numpy()
        if len(values):
            counts, _ = np.histogram(values, BINS)
            least, median, greatest = map(float, np.quantile(values, (0, 0.5, 1)))
            yield Distribution(field.name, len(values), least, median, greatest, counts.tolist())
