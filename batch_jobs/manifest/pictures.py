"""A folder of pictures as a manifest: each instruction edits every picture."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass

from fsspec.utils import glob_translate

from batch_jobs.manifest.listing import (
    by_endings,
    ending_of,
    files_below,
    is_hidden,
    without_outputs,
)
from batch_jobs.manifest.reading import Reading
from batch_jobs.manifest.row import Row
from batch_jobs.manifest.thin import FileRows, ThinRows
from engine.errors import ImageNotFound, ManifestInvalid
from engine.text import clean_instruction, has_lone_surrogate

# Of pictures, also of those that are taken only where `accept` names them: what is wrong with one
# its row says, and none is passed over.
ENDINGS = frozenset(
    (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".heic")
) | {".heif", ".avif"}
NAMES = {name: name for name in ("id", "image", "instruction")}


@dataclass(frozen=True, slots=True)
class Pictures:
    """Holds the pictures below a folder, and what is to be said of its other files."""

    names: list[str]  # relative to the folder
    notes: list[str]


def pictures_below(folder: str, pattern: str | None = None) -> Pictures:
    """Find the pictures below a folder; `pattern`: a glob of their relative paths, in which `**`
    stands for any folders, none among them.

    Raises `ManifestInvalid` where there is none, and what a storage's client raises.
    """
    names, outputs = without_outputs(files_below(folder))
    found = [name for name in names if ending_of(name) in ENDINGS and not is_hidden(name)]
    others = sorted(set(names) - set(found))
    notes = [f"{folder}: no pictures, left out: {by_endings(others)}"] if others else []
    notes += [f"{folder}/{output}: the output of a job, left out" for output in outputs]
    if pattern is not None:
        wanted = re.compile(_regex(pattern))
        unwanted = [name for name in found if not wanted.match(name)]
        found = [name for name in found if wanted.match(name)]
        notes += [f"{folder}: not in --glob {pattern}: {by_endings(unwanted)}"] if unwanted else []
    if not found:
        matching = "" if pattern is None else f" that matches {pattern}"
        said = "; ".join(["", *notes])
        raise ManifestInvalid(f"{folder} holds no picture{matching}{said}", param="image")
    return Pictures(found, notes)


def _regex(pattern: str) -> str:
    try:
        return str(glob_translate(pattern))
    except ValueError:
        raise ManifestInvalid(
            f"--glob {pattern}: ** stands alone between slashes, as in **/*.jpg", param="glob"
        ) from None


def read_pictures(folder: str, reading: Reading) -> FileRows:
    """Make a row of each picture with each instruction; its id is the picture's path, of the second
    instruction on with "#2".

    Raises `ManifestInvalid`, `InstructionEmpty` and `InstructionTooLong`.
    """
    for instruction in reading.instructions:
        if instruction.strip() or "instruction" in reading.required:  # a style may be all of it
            clean_instruction(instruction)
    found = pictures_below(folder, reading.glob)
    rows = ThinRows()
    for name in found.names:
        for number, instruction in enumerate(reading.instructions, 1):
            rows.add(_row(name, instruction, number), 0)
    return FileRows(rows.table(), NAMES, notes=found.notes)


def _row(name: str, instruction: str, number: int) -> Row:
    row = Row(image=name, instruction=instruction)
    if has_lone_surrogate(name):
        name = os.fsencode(name).decode("utf-8", "backslashreplace")
        row.image = None
        row.refuse(ImageNotFound("its name is not UTF-8: rename it (convmv -f gbk -t utf8)"))
    row.id = name if number == 1 else f"{name}#{number}"
    return row
