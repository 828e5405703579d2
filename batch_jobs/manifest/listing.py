"""The files below a folder, on a disk or in storage, and how those are told that are left out."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence

from storage.location import is_uri
from storage.sources import filesystem_of

_MOST_ENDINGS = 5  # are told apart in a message


def files_below(folder: str) -> list[str]:
    """List all files below a folder, however deep, as sorted paths relative to it, with /.

    Links to folders are followed, each folder once. Raises `OSError`, and what a storage's client
    raises.
    """
    if not is_uri(folder):
        return sorted(_walk(folder))
    fs, path = filesystem_of(folder)
    start = len(path.rstrip("/")) + 1
    return sorted(name[start:] for name in fs.find(path))


def _walk(folder: str) -> Iterator[str]:
    met = {_identity(folder)}

    def stop(error: OSError) -> None:
        raise error

    def is_new(path: str) -> bool:
        known = _identity(path) in met
        met.add(_identity(path))
        return not known

    for path, folders, names in os.walk(folder, onerror=stop, followlinks=True):
        links = {name for name in folders if os.path.islink(f"{path}/{name}")}
        folders.sort(key=lambda name: (name in links, name))
        folders[:] = [name for name in folders if is_new(f"{path}/{name}")]
        start = os.path.relpath(path, folder)
        yield from (name if start == "." else f"{start}/{name}" for name in names)


def _identity(folder: str) -> tuple[int, int]:
    found = os.stat(folder)
    return found.st_dev, found.st_ino


def without_outputs(names: Sequence[str]) -> tuple[list[str], list[str]]:
    """Separate files from those in the outputs of jobs: returns (the other files, the outputs).

    An output is a folder with `job.json` beside `results/` or `images/`: its pictures are results.
    """
    told = [os.path.dirname(name) for name in names if name.endswith("/job.json")]
    jobs = [
        job
        for job in told
        if any(n.startswith((f"{job}/results/", f"{job}/images/")) for n in names)
    ]
    inside = tuple(f"{job}/" for job in jobs)
    return [name for name in names if not name.startswith(inside)], jobs


def is_hidden(name: str) -> bool:
    """Tell a path with a part that nobody shows: ".DS_Store", or Excel's "~$open.xlsx"."""
    return any(part.startswith((".", "~$")) for part in name.split("/"))


def ending_of(name: str) -> str:
    """Return the ending of a path in lower case, with that of what is packed: ".jsonl.gz"."""
    stem, ending = os.path.splitext(name.lower())
    return os.path.splitext(stem)[1] + ending if ending == ".gz" else ending


def by_endings(names: Sequence[str]) -> str:
    """Count files by their endings: "2 .txt, 1 hidden, such as notes.txt"."""
    kinds = Counter("hidden" if is_hidden(n) else ending_of(n) or "without ending" for n in names)
    told = [f"{count:,} {kind}" for kind, count in kinds.most_common(_MOST_ENDINGS)]
    others = len(names) - sum(count for _, count in kinds.most_common(_MOST_ENDINGS))
    told += [f"{others:,} others"] if others else []
    shown = next((name for name in names if not is_hidden(name)), names[0])
    return f"{', '.join(told)}, such as {ascii(shown)[1:-1] if not shown.isprintable() else shown}"
