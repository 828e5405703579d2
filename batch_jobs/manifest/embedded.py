"""The images that a manifest holds itself, read again where they are needed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from batch_jobs.manifest.jsonl import open_lines, read_line_at
from batch_jobs.manifest.parquet import read_images
from batch_jobs.manifest.place import Place

Placed = tuple[int, Place]  # with the position at which it was asked for


def read_embedded(places: Sequence[Place | None]) -> Iterator[tuple[int, bytes | None]]:
    """Yield (position in `places`, bytes) of the images that are still there; a file or a row
    group is read once for all of its rows."""
    wanted: dict[str, list[Placed]] = {}
    for position, place in enumerate(places):
        if place is not None:
            wanted.setdefault(place.file, []).append((position, place))
    for file, rows in wanted.items():
        yield from (_read_lines if file.lower().endswith(".jsonl") else _read_groups)(file, rows)


def _read_lines(file: str, rows: Sequence[Placed]) -> Iterator[tuple[int, bytes | None]]:
    with open_lines(file) as source:
        for position, place in rows:
            yield position, read_line_at(source, place.row).data


def _read_groups(file: str, rows: Sequence[Placed]) -> Iterator[tuple[int, bytes | None]]:
    groups: dict[int, dict[int, int]] = {}
    for position, place in rows:
        groups.setdefault(place.row_group, {})[place.row] = position
    for group, positions in groups.items():
        for number, data in read_images(file, group, positions):
            yield positions[number], data
