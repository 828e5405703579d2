"""Where a manifest itself holds the image or the mask of a row."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Place:
    """Names a row of a file of the manifest."""

    file: str  # path or URI
    row_group: int  # of Parquet; 0 in JSONL
    row: int  # its number in the group; in JSONL the byte at which its line starts
