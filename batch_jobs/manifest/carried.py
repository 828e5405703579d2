"""Columns that mean nothing to an edit, on their way from the manifest into the ledger."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

from batch_jobs.manifest.cells import text

# Of a value as JSON. A caption or the reasons of a judge are shorter; a file in base64 is not.
MAX_CHARACTERS = 10_000


class Carried:
    """Writes such cells as JSON, and keeps which columns have any, and which are not carried."""

    def __init__(self, *, wanted: bool = True) -> None:
        self._wanted = wanted
        self.columns: dict[str, None] = {}
        self.dropped: dict[str, None] = {}  # that hold files, or values too long

    def json(self, cells: Mapping[str, Any]) -> str | None:
        """Write the cells of a row that hold something as a JSON object, None where none does."""
        kept: dict[str, Any] = {}
        for column, value in cells.items():
            plain = _plain(value)
            if plain in (None, ""):
                continue
            written = json.dumps(plain, ensure_ascii=False, default=str)
            if len(written) > MAX_CHARACTERS:
                self.dropped[column] = None
            else:
                self.columns[column] = None
                kept[text(column)] = written
        if not kept or not self._wanted:
            return None
        members = (f"{json.dumps(name, ensure_ascii=False)}: {kept[name]}" for name in kept)
        return text(f"{{{', '.join(members)}}}")


def carried_values(carried: str | None) -> dict[str, Any]:
    """Read what `Carried.json` wrote."""
    return {} if carried is None else dict(json.loads(carried))


def _plain(value: Any) -> Any:
    """Make JSON's values of a cell: no NaN, which JSON has not."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {str(name): _plain(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    return value
