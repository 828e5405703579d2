"""Names under which pictures are delivered: those of their sources, which any system can hold."""

from __future__ import annotations

import os
import posixpath
import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from storage.location import located, normalized

MAX_STEM_BYTES = 200  # ext4, APFS and NTFS hold 255: number, "-mask" and the ending come behind it
MAX_INSTRUCTION_CHARACTERS = 60
SEVERAL = " - "  # before the instruction, where a source has several edits
_ENDING = re.compile(r"\.(jpe?g|png|webp|gif|bmp|tiff?|hei[cf]|avif)$", re.IGNORECASE)
# Windows: Naming Files, Paths, and Namespaces (learn.microsoft.com)
_NOT_IN_NAMES = re.compile(r'[<>:"/\\|?*\x00-\x1f\x7f]')
_RESERVED = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Asked:
    """Says of an edit what its pictures may be named by."""

    id: str
    source: str | None  # path or URI, as the manifest names it
    instruction: str


def stems(asked: Sequence[Asked], base: str) -> tuple[list[str], dict[str, str]]:
    """Name the pictures of each edit without their ending, by the source, its folders kept.

    Where several would have one name the instruction follows, and the id where that is not enough.
    Returns the names, no two of them alike even where case does not count, and what was changed
    for other systems: part of a name as it was -> as it is. `base`: see `manifest.plan.base_of`.
    """
    changed: dict[str, str] = {}

    def portable(part: str) -> str:
        made = _portable(part)
        if made != part:
            changed[part] = made
        return made

    def joined(place: str, *behind: str) -> str:
        *folders, name = place.split("/")
        last = SEVERAL.join(filter(None, [_ENDING.sub("", name), *behind]))
        return "/".join(portable(part) for part in [*folders, last])

    places = _places(asked, base)
    names = [joined(place) for place in places]
    for parts in (lambda row: [_short(row)], lambda row: [_short(row), row.id]):
        counts = Counter(map(_key, names))
        names = [
            name if counts[_key(name)] == 1 else joined(place, *parts(row))
            for name, place, row in zip(names, places, asked, strict=True)
        ]
    return _numbered(names), changed


def _short(row: Asked) -> str:
    return " ".join(row.instruction.split())[:MAX_INSTRUCTION_CHARACTERS].strip()


def _places(asked: Sequence[Asked], base: str) -> list[str]:
    """Find where each source lies below the folder of the manifest, or below the one that all
    others have in common; the id of an edit whose source the manifest holds."""
    base = _path(base)
    paths = [None if row.source is None else _path(located(row.source, base)) for row in asked]
    outside = [path for path in paths if path and not path.startswith(f"{base}/")]
    common = posixpath.commonpath([posixpath.dirname(path) for path in outside] or [base])
    return [
        row.id.replace("/", "_")
        if path is None
        else posixpath.relpath(path, base if path.startswith(f"{base}/") else common)
        for path, row in zip(paths, asked, strict=True)
    ]


def _path(location: str) -> str:
    """Spell a path or URI as an absolute path; a bucket is a folder."""
    scheme, separator, rest = normalized(location).partition("://")
    return os.path.normpath(f"/{rest}" if separator else scheme)


def _portable(part: str) -> str:
    """Make one part of a path a name that Linux, macOS and Windows can hold."""
    name = _NOT_IN_NAMES.sub("_", part)
    name = name.encode("utf-8", "replace")[:MAX_STEM_BYTES].decode("utf-8", "ignore")
    name = re.sub(r"^ +|[. ]+$", "_", name) or "_"
    return f"{name}_" if _RESERVED.fullmatch(name) else name


def _key(name: str) -> str:
    """Spell a name as a system does that tells neither case nor composed accents apart."""
    return unicodedata.normalize("NFC", name).casefold()


def _numbered(names: Sequence[str]) -> list[str]:
    """Number what is alike all the same, as two ids are that were cut."""
    taken: set[str] = set()
    found = []
    for name in names:
        number, made = 1, name
        while _key(made) in taken:
            number += 1
            made = f"{name}-{number}"
        taken.add(_key(made))
        found.append(made)
    return found
