"""JSONL manifests: one object a line, packed by gzip or not."""

from __future__ import annotations

import codecs
import gzip
import io
import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO

import fsspec

from batch_jobs.manifest.objects import Cells, ObjectRows, read_object, shape_of
from batch_jobs.manifest.reading import Reading
from batch_jobs.manifest.row import Row
from batch_jobs.manifest.thin import FileRows
from engine.errors import ManifestInvalid

LINE_BYTES = 2**20  # read at a time: fsspec's own files copy a block, 50 MiB of S3, for each line


def read_jsonl(source: BinaryIO, file: str, reading: Reading) -> FileRows:
    """Raises `ManifestInvalid` naming the line."""
    rows, offset = ObjectRows(file, reading), 0
    for number, line in enumerate(io.BufferedReader(source, LINE_BYTES), start=1):  # type: ignore[type-var]
        start, offset = offset, offset + len(line)
        if not line.strip():
            continue
        try:
            rows.add(parse_line(line), start)
        except ManifestInvalid as error:
            raise ManifestInvalid(
                f"{file}, line {number}: {error.message}", param=error.param
            ) from None
    return rows.of_file()


def parse_line(line: bytes) -> Cells:
    """Read an object of JSON; raises `ManifestInvalid`."""
    if line.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) or b"\0" in line:
        raise ManifestInvalid("this is UTF-16, and JSON is UTF-8: save it as that")
    try:
        cells = json.loads(line.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise ManifestInvalid(
            f"byte {line[error.start]:#04x} is not UTF-8, which JSON is; from GBK: "
            "iconv -f GB18030 -t UTF-8 FILE > NEW"
        ) from None
    except (ValueError, RecursionError) as error:
        raise ManifestInvalid(f"not JSON: {error}") from None
    if not isinstance(cells, dict):
        raise ManifestInvalid("must be a JSON object")
    return cells


@contextmanager
def open_lines(file: str) -> Iterator[BinaryIO]:
    """Open a file to read single lines of it, by `read_line_at`."""
    fs, path = fsspec.core.url_to_fs(file)
    with fs.open(path, "rb", block_size=LINE_BYTES) as source:
        packed = file.lower().endswith(".gz")
        lines = gzip.GzipFile(fileobj=source) if packed else source
        yield io.BufferedReader(lines, LINE_BYTES)


def read_line_at(source: BinaryIO, offset: int, reading: Reading) -> Row:
    """Read the row whose line starts at byte `offset`, with its image and mask."""
    source.seek(offset)
    cells = parse_line(source.readline())
    return read_object(cells, shape_of(cells, reading), reading)
