"""The images and masks that a manifest holds itself, read again where they are needed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from batch_jobs.manifest.cells import Embedded
from batch_jobs.manifest.jsonl import open_lines, read_line_at
from batch_jobs.manifest.listing import ending_of
from batch_jobs.manifest.parquet_pictures import read_rows
from batch_jobs.manifest.place import Place
from batch_jobs.manifest.reading import AS_IT_IS, Reading

LINES = (".jsonl", ".ndjson", ".json")  # endings of files that are read line by line
Placed = tuple[int, Place]  # with the position at which it was asked for


def read_embedded(
    places: Sequence[Place | None], reading: Reading = AS_IT_IS
) -> Iterator[tuple[int, Embedded]]:
    """Yield (position in `places`, its pictures) of the rows that are still there; a file or a
    row group is read once for all of its rows."""
    wanted: dict[str, list[Placed]] = {}
    for position, place in enumerate(places):
        if place is not None:
            wanted.setdefault(place.file, []).append((position, place))
    for file, rows in wanted.items():
        read = _read_lines if ending_of(file).removesuffix(".gz") in LINES else _read_groups
        yield from read(file, rows, reading)


def _read_lines(
    file: str, rows: Sequence[Placed], reading: Reading
) -> Iterator[tuple[int, Embedded]]:
    with open_lines(file) as source:
        for position, place in rows:
            row = read_line_at(source, place.row, reading)
            further = [reference.data for reference in row.references]
            yield position, Embedded(row.data, row.mask_data, further)


def _read_groups(
    file: str, rows: Sequence[Placed], reading: Reading
) -> Iterator[tuple[int, Embedded]]:
    groups: dict[int, dict[int, int]] = {}
    for position, place in rows:
        groups.setdefault(place.row_group, {})[place.row] = position
    for group, positions in groups.items():
        for number, found in read_rows(file, group, positions, reading.columns):
            yield positions[number], found
