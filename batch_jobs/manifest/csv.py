"""CSV manifests: a header, then text, in the encodings and with the separators that Excel uses."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from itertools import chain
from typing import Any, BinaryIO, TextIO

from batch_jobs.manifest.columns import COLUMNS, Chosen, meaning_of
from batch_jobs.manifest.encoding import TITLES, find_encoding
from batch_jobs.manifest.reading import Reading
from batch_jobs.manifest.table import Record, read_table
from batch_jobs.manifest.thin import FileRows
from engine.errors import ManifestInvalid

MAX_CELL_CHARACTERS = 2**20  # Python's own limit, 128 KiB, is for a whole process
SEPARATORS = ",;\t"
_SEPARATOR_LINE = "sep="  # as Excel writes it above the header


def read_csv(source: BinaryIO, file: str, reading: Reading) -> FileRows:
    """Read a CSV with a header: UTF-8, UTF-16 or GBK, between commas, semicolons or tabs.

    Raises `ManifestInvalid` naming the line.
    """
    csv.field_size_limit(MAX_CELL_CHARACTERS)
    encoding = find_encoding(source, file)
    source.seek(0)
    text = io.TextIOWrapper(source, encoding, newline="")
    header, separator, before = _header(text, reading.columns)
    lines = csv.reader(chain([header], text), delimiter=separator, strict=True)
    records = _records(lines, before, file)
    _, columns = next(records, (1, []))
    found = read_table(columns, records, file, reading, "line")
    if encoding not in TITLES:
        return found
    texts = found.rows["instruction"].to_pylist()
    shown = next((f', such as "{text[:20]}"' for text in texts if text and not text.isascii()), "")
    note = f"{file} is {TITLES[encoding]} and is read as that{shown}; UTF-8 leaves no doubt"
    return FileRows(found.rows, found.names, found.carried, found.dropped, [note])


def _header(text: TextIO, chosen: Chosen) -> tuple[str, str, int]:
    """Read up to the header: returns it, the separator, and how many lines stand before it."""
    header = text.readline()
    if header.startswith(_SEPARATOR_LINE) and header[len(_SEPARATOR_LINE) :].strip("\r\n"):
        return text.readline(), header[len(_SEPARATOR_LINE)], 1
    known = {*COLUMNS, *(column for column, _ in chosen)}

    def fitness(separator: str) -> tuple[int, int]:
        try:
            columns = next(csv.reader([header], delimiter=separator), [])
        except csv.Error:
            return 0, 0
        meanings = [
            column if column in known else meaning_of(column, columns) for column in columns
        ]
        return sum(meaning in known for meaning in meanings), len(columns)

    return header, max(SEPARATORS, key=fitness), 0


def _records(lines: Any, before: int, file: str) -> Iterator[Record]:
    """Yield each record with the number of its last line: a quoted cell may have several.

    `lines`: a reader of csv; `before`: how many lines it was not given.
    """
    while True:
        first = before + lines.line_num + 1
        try:
            cells = next(lines)
        except StopIteration:
            return
        except csv.Error as error:
            raise ManifestInvalid(
                f'{file}, line {first}: a quote (") opens here that does not close before the '
                f'next cell or the end of the file ({error}); write "" for a quote in a quoted cell'
            ) from None
        yield before + lines.line_num, cells
