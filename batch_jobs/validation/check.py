"""What is wrong with a manifest, found before any model is loaded; seconds for 10^5 rows.

Every check is the job's own: `open_manifest`, `planned_options`, `plan_geometry`,
`clean_instruction` and `decode_rows` say what is wrong, this says where.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from batch_jobs.config import JobConfig
from batch_jobs.manifest.plan import OFFENDERS, Manifest, base_of, id_problems
from batch_jobs.manifest.rows import error_of, planned_options
from batch_jobs.stages.edit import decode_rows
from engine.errors import EngineError, RequestError
from engine.geometry import plan_geometry
from engine.images import decode
from engine.registry import ModelSpec
from engine.text import clean_instruction

# The kind of a source: its scheme, whether it climbs, its suffix. Of each kind one is opened.
_KIND = (
    r"^(?P<scheme>[A-Za-z0-9.+-]+://|/|)(?:.*?(?P<up>\.\./))?.*?(?P<suffix>\.[A-Za-z0-9]{1,8})?$"
)
MAX_KINDS = 100
T = TypeVar("T")
ROWS_AT_ONCE = 16  # decoded together: an image may have 50 megapixels


@dataclass(slots=True)
class Problem:
    """One kind of fault in one column of one file; `offenders`: the first rows, "id: why"."""

    file: str
    column: str
    code: str
    count: int = 0
    offenders: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        rows = "1 row" if self.count == 1 else f"{self.count:,} rows"
        lines = [f"{self.file}, column {self.column}: {rows}, {self.code}"]
        lines += [f"  {offender}" for offender in self.offenders]
        if self.count > len(self.offenders):
            lines.append(f"  and {self.count - len(self.offenders):,} more")
        return "\n".join(lines)


class ManifestCheck:
    """Looks at every row of a manifest, and at a sample of its images."""

    def __init__(self, manifest: Manifest, config: JobConfig, spec: ModelSpec) -> None:
        self.manifest = manifest
        self.plan = manifest.plan
        self.images_opened = 0
        self._config = config
        self._spec = spec
        self._id_problems = [f"{manifest.location}: {text}" for text in id_problems(self.plan)]
        self._problems: dict[tuple[str, str, str], Problem] = {}
        self._is_bad = np.zeros(len(self.plan), bool)

    @property
    def problems(self) -> list[str]:
        """One text a problem: file, column, how many rows, the first ten of them."""
        return [*self._id_problems, *map(str, self._problems.values())]

    def check_rows(self) -> None:
        """Options and instruction of every row, and that it has an image; cells that are the same
        are looked at once."""
        square = (self._spec.resolution, self._spec.resolution)

        def check_options(planned: str) -> None:
            options = planned_options(planned, self._spec)
            plan_geometry(square, self._spec.resolve(options, seed=0), self._spec)

        rows = np.arange(len(self.plan))
        self._check_each("options", rows, check_options)
        is_given = pc.is_valid(self.plan["instruction"]).to_numpy()
        rows = rows[is_given | ~self._is_bad]  # of the others it is known why they have none
        self._check_each("instruction", rows, clean_instruction)
        names = ("image", "image_sha256")
        has_none = np.all([pc.is_null(self.plan[name]).to_numpy() for name in names], axis=0)
        rows = np.flatnonzero(has_none & ~self._is_bad)
        self._add(rows, [_error_in(decode, b"")] * len(rows))

    def check_images(self, count: int) -> None:
        """Open `count` images, evenly spread, and one of each kind of path, as a job would."""
        rows = self._sample(count)
        self.images_opened = len(rows)
        for start in range(0, len(rows), ROWS_AT_ONCE):
            part = rows[start : start + ROWS_AT_ONCE]
            self.add_failures(part, self.decode(self.plan.take(pa.array(part))))

    def decode(self, rows: pa.Table) -> pa.Table:
        """What the job makes of these rows of the plan before the model sees them."""
        count = len(rows)
        rows = rows.append_column("attempts", pa.repeat(1, count))
        rows = rows.append_column("fingerprint", pa.repeat("", count))
        base = base_of(self.manifest.location)
        root = self._config.image_root
        root = os.path.abspath(root) if root else None
        return decode_rows(rows, self._spec, self._config.seed, base, root)

    def add_failures(self, rows: np.ndarray, block: pa.Table) -> None:
        """The failures among the ledger rows (`entry`) that became of these rows of the plan."""
        for row, text in zip(rows, block["entry"].to_pylist(), strict=True):
            entry = json.loads(text)
            if entry["status"] == "error":
                error = error_of(entry["error_code"], entry["error_message"])
                self._add(np.array([row]), [error])

    def good_rows(self, count: int) -> np.ndarray:
        """`count` rows of the plan, evenly spread, against which nothing is known."""
        good = np.flatnonzero(~self._is_bad)
        return (
            good[np.unique(np.linspace(0, len(good) - 1, count).astype(int))] if len(good) else good
        )

    def _sample(self, count: int) -> np.ndarray:
        good = np.flatnonzero(~self._is_bad)
        if not count or not len(good):
            return good[:0]
        parts = pc.extract_regex(self.plan["image"].take(pa.array(good)), _KIND)
        names = ("scheme", "up", "suffix")
        kinds = {name: pc.utf8_lower(pc.struct_field(parts, name)) for name in names}
        table = pa.table({"row": good, **kinds})
        firsts = table.group_by(list(names)).aggregate([("row", "min")])["row_min"].to_numpy()
        return np.union1d(firsts[:MAX_KINDS], self.good_rows(count))

    def _check_each(self, column: str, rows: np.ndarray, check: Callable[[str], object]) -> None:
        cells = self.plan[column].combine_chunks().fill_null("").take(pa.array(rows))
        encoded = pc.dictionary_encode(cells)
        errors = [_error_in(check, value) for value in encoded.dictionary.to_pylist()]
        kinds = list(dict.fromkeys((e.code, e.param) for e in errors if e is not None))
        kind_of_value = [-1 if e is None else kinds.index((e.code, e.param)) for e in errors]
        values = encoded.indices.to_numpy()
        kind_of_row = np.array(kind_of_value, np.int32)[values]
        for kind in range(len(kinds)):
            bad = np.flatnonzero(kind_of_row == kind)
            self._add(rows[bad], [errors[value] for value in values[bad]])

    def _add(self, rows: np.ndarray, errors: Sequence[EngineError | None]) -> None:
        """These rows of the plan fail, each with its error, all of one code and parameter."""
        self._is_bad[rows] = True
        places = self.plan.select(["file", "id"]).take(pa.array(rows))
        for file, id, error in zip(
            places["file"].to_pylist(), places["id"].to_pylist(), errors, strict=True
        ):
            if error is None:
                continue
            column = self._column(file, error.param or "")
            key = (file, column, error.code)
            problem = self._problems.setdefault(key, Problem(*key))
            problem.count += 1
            if problem.count <= OFFENDERS:
                problem.offenders.append(f"{id}: {error.message}")

    def _column(self, file: str, name: str) -> str:
        """What the file calls it."""
        names = self.manifest.files[file].names
        return next((column for column, meaning in names.items() if meaning == name), name)


def _error_in(check: Callable[[T], object], value: T) -> EngineError | None:
    try:
        check(value)
    except RequestError as error:
        return error
    return None
