"""JSON manifests: a list of objects, or in spite of its name one object a line."""

from __future__ import annotations

import io
import json
from typing import Any, BinaryIO

from batch_jobs.manifest.jsonl import read_jsonl
from batch_jobs.manifest.objects import ObjectRows
from batch_jobs.manifest.reading import Reading
from batch_jobs.manifest.thin import FileRows
from engine.errors import ManifestInvalid


def read_json(source: BinaryIO, file: str, reading: Reading) -> FileRows:
    """Read the objects of a list; raises `ManifestInvalid` naming the object."""
    data = source.read()
    if data.lstrip()[:1] != b"[":
        return read_jsonl(io.BytesIO(data), file, reading)
    rows = ObjectRows(file, reading)
    for number, cells in enumerate(_objects(data, file), start=1):
        try:
            if not isinstance(cells, dict):
                raise ManifestInvalid("must be a JSON object")
            row = rows.add(cells, number)
            references = [reference.data for reference in row.references]
            if any(held is not None for held in (row.data, row.mask_data, *references)):
                raise ManifestInvalid("a list holds no images and no masks; use JSONL or Parquet")
        except ManifestInvalid as error:
            raise ManifestInvalid(f"{file}, object {number}: {error.message}") from None
    return rows.of_file()


def _objects(data: bytes, file: str) -> list[Any]:
    try:
        return list(json.loads(data.decode("utf-8-sig")))
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ManifestInvalid(f"{file}, line {line}: not UTF-8, which JSON is") from None
    except (ValueError, RecursionError) as error:
        raise ManifestInvalid(f"{file}: not JSON: {error}") from None
