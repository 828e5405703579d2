"""What is wrong with a manifest, found before any model is loaded; seconds for 10^5 rows.

Every check is the job's own: `open_manifest`, `with_styles`, `check_model`, `parse_options`,
`plan_geometry`, `clean_instruction` and `decode_rows` say what is wrong, this says where.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from batch_jobs.config import JobConfig
from batch_jobs.ledger.entry import Entry
from batch_jobs.manifest.cells import NO_IMAGE
from batch_jobs.manifest.chains import chain_problems, is_later
from batch_jobs.manifest.fault import Fault
from batch_jobs.manifest.plan import OFFENDERS, Manifest, id_problems
from batch_jobs.manifest.planned import check_model, parse_options, reference_paths
from batch_jobs.manifest.styled import with_styles
from batch_jobs.records import from_table
from batch_jobs.stages.context import BlockContext
from batch_jobs.stages.decode import DecodedRow, decode_rows
from engine.counted import counted
from engine.errors import EngineError, ImageMissing, RequestError
from engine.geometry import plan_geometry
from engine.spec import ModelSpec
from engine.text import clean_instruction
from engine.wire import check_background

# The kind of an image or a mask: its scheme, whether it climbs, its suffix. Of each kind one is
# opened.
_SOURCE_KIND = (
    r"^(?P<scheme>[A-Za-z0-9.+-]+://|/|)(?:.*?(?P<up>\.\./))?.*?(?P<suffix>\.[A-Za-z0-9]{1,8})?$"
)
MAX_KINDS = 100
T = TypeVar("T")
ROWS_AT_ONCE = 16  # decoded together: an image may have 50 megapixels


@dataclass(slots=True)
class Problem:
    """One kind of fault in one column of one file."""

    file: str
    column: str
    code: str
    count: int = 0
    offenders: list[str] = field(default_factory=list)  # the first rows, "id: why"

    def __str__(self) -> str:
        rows = counted(self.count, "row")
        lines = [f"{self.file}, column {self.column}: {rows}, {self.code}"]
        lines += [f"  {offender}" for offender in self.offenders]
        if self.count > len(self.offenders):
            lines.append(f"  and {self.count - len(self.offenders):,} more")
        return "\n".join(lines)


class ManifestCheck:
    """Looks at every row of a manifest, and at a sample of its images with their masks."""

    def __init__(self, manifest: Manifest, config: JobConfig, spec: ModelSpec) -> None:
        self.manifest = manifest
        styles = config.engine.find_styles()
        self.plan = with_styles(manifest.plan, styles, spec, config.style, config.said)
        self.images_opened = 0
        self.config = config
        self.spec = spec
        problems = [*id_problems(self.plan), *chain_problems(self.plan)]
        self._id_problems = [f"{manifest.location}: {text}" for text in problems]
        self._has_own = ~is_later(self.plan).to_numpy()  # image: others have what a job makes
        self._problems: dict[tuple[str, str, str], Problem] = {}
        self._warned: dict[str, list[str]] = defaultdict(list)  # code -> ids
        self._is_bad = np.zeros(len(self.plan), bool)

    @property
    def problems(self) -> list[str]:
        """One text a problem: file, column, how many rows, the first ten of them."""
        return [*self._id_problems, *map(str, self._problems.values())]

    @property
    def warnings(self) -> list[str]:
        """One line a code: how many of the images that were opened have it, and the first ten."""
        return [_warning(code, ids) for code, ids in sorted(self._warned.items())]

    def check_rows(self) -> None:
        """Look at options and instruction of every row, and whether it has an image; equal cells
        are looked at once. A row has one problem: the first of these."""
        spec, square = self.spec, (self.spec.resolution, self.spec.resolution)

        def check_options(planned: str) -> None:
            options = spec.resolve(parse_options(planned), seed=0)
            check_background(options, self.config.output_format)
            plan_geometry(square, options, spec)

        faulty = pc.indices_nonzero(pc.is_valid(self.plan["fault"])).to_numpy()
        faults = self.plan["fault"].take(pa.array(faulty)).to_pylist()
        self._add(faulty, [Fault(**fault).error() for fault in faults])
        self._check_each("model", self._good(), lambda model: check_model(model or None, spec))
        self._check_each("options", self._good(), check_options)
        is_given = pc.is_valid(self.plan["instruction"]).to_numpy()
        rows = np.flatnonzero(is_given | ~self._is_bad)  # of the others it is known why
        self._check_each("instruction", rows, clean_instruction)
        names = ("image", "image_sha256")
        has_none = np.all([pc.is_null(self.plan[name]).to_numpy() for name in names], axis=0)
        needed = self._has_own & (spec.max_sources > 0)
        rows = np.flatnonzero(has_none & needed & ~self._is_bad)
        self._add(rows, [ImageMissing(NO_IMAGE)] * len(rows))
        self._check_counts()

    def _check_counts(self) -> None:
        """Look at how many images each row has."""
        counts = 1 + self._further_counts()
        for count in np.unique(counts):
            if error := _error_in(self.spec.check_sources, int(count)):
                rows = np.flatnonzero((counts == count) & ~self._is_bad)
                self._add(rows, [error] * len(rows))

    def _further_counts(self) -> np.ndarray:
        return pc.list_value_length(self.plan["references"]).to_numpy()

    def check_images(self, count: int) -> None:
        """Open `count` images with their masks, evenly spread, and one of each kind of path, as
        a job would."""
        rows = self._sample(count)
        self.images_opened = len(rows)
        for start in range(0, len(rows), ROWS_AT_ONCE):
            part = rows[start : start + ROWS_AT_ONCE]
            decoded = decode_rows(self.plan.take(pa.array(part)), self.context())
            entries = [row.entry for row in from_table(DecodedRow, decoded)]
            self.add_failures(part, entries)
            for entry in entries:
                for code in entry.warnings:
                    self._warned[code].append(entry.id)

    def context(self) -> BlockContext:
        """Make the context that a job over this manifest has."""
        return BlockContext.of(self.manifest.location, self.config, self.spec)

    def add_failures(self, rows: np.ndarray, entries: Iterable[Entry]) -> None:
        """Take the failures among the entries that became of these rows of the plan."""
        for row, entry in zip(rows, entries, strict=True):
            if entry.fault is not None:
                self._add(np.array([row]), [entry.fault.error()])

    def good_rows(self, count: int) -> np.ndarray:
        """Choose `count` rows of the plan, evenly spread, that can be edited now and against which
        nothing is known."""
        good = np.flatnonzero(~self._is_bad & self._has_own)
        if not len(good):
            return good
        return good[np.unique(np.linspace(0, len(good) - 1, count).astype(int))]

    def _good(self) -> np.ndarray:
        return np.flatnonzero(~self._is_bad)

    def _sample(self, count: int) -> np.ndarray:
        good = np.flatnonzero(~self._is_bad & self._has_own)
        if not count or not len(good):
            return good[:0]
        has_mask = [pc.is_valid(self.plan[name]).to_numpy() for name in ("mask", "mask_sha256")]
        masked = good[np.any(has_mask, axis=0)[good]]
        further = np.repeat(np.arange(len(self.plan)), self._further_counts())
        is_good = np.isin(further, good)
        firsts = [
            _first_of_each_kind(self.plan["image"].take(pa.array(good)), good),
            _first_of_each_kind(self.plan["mask"].take(pa.array(masked)), masked),
            _first_of_each_kind(
                reference_paths(self.plan).filter(pa.array(is_good)), further[is_good]
            ),
        ]
        return np.union1d(np.concatenate(firsts), self.good_rows(count))

    def _check_each(self, column: str, rows: np.ndarray, check: Callable[[str], object]) -> None:
        """Check each distinct cell of `rows` once, and add the rows that hold a wrong one.

        rows   cell    value   wrong values    added
        0      "5"     0       {1: error}      3: error
        3      "x"     1
        4      "5"     0
        """
        cells = self.plan[column].combine_chunks().fill_null("").take(pa.array(rows))
        encoded = pc.dictionary_encode(cells)
        values = encoded.indices.to_numpy()
        checked = [_error_in(check, cell) for cell in encoded.dictionary.to_pylist()]
        wrong = {value: error for value, error in enumerate(checked) if error is not None}
        bad = np.flatnonzero(np.isin(values, list(wrong)))
        self._add(rows[bad], [wrong[value] for value in values[bad]])

    def _add(self, rows: np.ndarray, errors: Sequence[EngineError]) -> None:
        """Note that these rows of the plan fail, each with its error."""
        self._is_bad[rows] = True
        places = self.plan.select(["file", "id"]).take(pa.array(rows)).to_pylist()
        for place, error in zip(places, errors, strict=True):
            column = self._column(place["file"], error.param or "")
            key = (place["file"], column, error.code)
            problem = self._problems.setdefault(key, Problem(*key))
            problem.count += 1
            if problem.count <= OFFENDERS:
                problem.offenders.append(f"{place['id']}: {error.message}")

    def _column(self, file: str, name: str) -> str:
        """Find what the file calls it."""
        names = self.manifest.files[file].names
        return next((column for column, meaning in names.items() if meaning == name), name)


def _first_of_each_kind(paths: pa.ChunkedArray, rows: np.ndarray) -> np.ndarray:
    """Choose one of `rows` for each kind of path; `paths`: one of each row."""
    parts = pc.extract_regex(paths, _SOURCE_KIND)
    names = ("scheme", "up", "suffix")
    kinds = {name: pc.utf8_lower(pc.struct_field(parts, name)) for name in names}
    table = pa.table({"row": rows, **kinds})
    firsts = table.group_by(list(names)).aggregate([("row", "min")])["row_min"].to_numpy()
    return firsts[:MAX_KINDS]


def _warning(code: str, ids: Sequence[str]) -> str:
    more = len(ids) - OFFENDERS
    rest = f" and {more:,} more" if more > 0 else ""
    return f"{counted(len(ids), 'row')}, {code}: {', '.join(ids[:OFFENDERS])}{rest}"


def _error_in(check: Callable[[T], object], value: T) -> EngineError | None:
    try:
        check(value)
    except RequestError as error:
        return error
    return None
