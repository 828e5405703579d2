"""Where a model's weights are, and whether they are the ones that were meant. No torch."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path

from engine.errors import ModelError
from engine.hub import MODEL_SUFFIXES, HubFolders, fetch_weights, find_commit
from engine.spec import ModelSpec
from engine.tensor_file import file_damage

LOCK = "weights.sha256.json"  # {relative file name: sha256}, beside model_index.json
KNOWN_EDITS, JUDGE = "known_edits", "judge"  # folders: what a small model says of its edits
NO_PICTURE = (f"{KNOWN_EDITS}/", f"{JUDGE}/")  # no picture depends on what they hold


def find_weights(spec: ModelSpec) -> tuple[Path, str]:
    """Find a model's local folder and its revision, fetching what is on the hub.

    Raises `ModelError` where it cannot be fetched, or a lock file disagrees.
    """
    folders = [_fetched(spec.source, spec.revision, spec.hub), *_parts(spec)]
    return folders[0][0], _joined([revision for _, revision in folders])


def find_part(spec: ModelSpec, part: str) -> Path:
    """Find the local folder of one of `spec.parts`, fetching what is on the hub."""
    return _fetched(*_split(spec.parts[part]), spec.hub, part=True)[0]


def find_revision(spec: ModelSpec) -> str:
    """Find what identifies a model's weights, without loading them.

    The digest of a folder (`hub.local_dir` is one, and is filled first), or the commit of a hub id,
    as the hub or, without one, the cache has it; joined with those of its parts. Raises
    `ModelError`.
    """
    parts = [_revision(*_split(place), spec.hub, part=True) for place in spec.parts.values()]
    return _joined([_revision(spec.source, spec.revision, spec.hub), *parts])


def judge_revision(spec: ModelSpec) -> str | None:
    """Digest what a model's folder says of its edits, by which `auto_guidance` chooses a picture.

    None where it says nothing, and for a hub id: its revision is of all files.
    """
    folder = Path(spec.source) if Path(spec.source).is_dir() else spec.hub.local_dir
    if folder is None or not any(Path(folder, part).is_dir() for part in NO_PICTURE):
        return None
    return digest_parts(Path(folder), NO_PICTURE)


def digest_parts(folder: Path, parts: Iterable[str]) -> str:
    """Digest the files of some of the folders in a model's folder."""
    said = [path for part in parts for path in (folder / part).rglob("*")]
    files = sorted(path for path in said if path.suffix in MODEL_SUFFIXES)
    found = {str(path.relative_to(folder)): _sha256(path) for path in files}
    return hashlib.sha256(json.dumps(found).encode()).hexdigest()


def damage_of(spec: ModelSpec, folder: Path) -> str | None:
    """Say which of a model's files in `folder` and its parts is not whole, and what to do.

    None where each is as long as its header says.
    """
    for place in (folder, *(find_part(spec, part) for part in spec.parts)):
        for path in sorted(place.rglob("*.safetensors")):
            if damage := file_damage(path):
                return f"{path} {damage}"
    return None


def weights_bytes(spec: ModelSpec) -> int | None:
    """Measure what a model's weights take on disk; `None` where no folder here holds them."""
    folders = [Path(place) for place in (spec.source, *spec.parts.values())]
    if not all(folder.is_dir() for folder in folders):
        return None
    files = (file for folder in folders for file in folder.rglob("*.safetensors"))
    return sum(file.stat().st_size for file in files)


@lru_cache(maxsize=16)
def verify_weights(folder: Path) -> str:
    """Digest all that a model's pictures depend on: weights, configurations, tokenizer.

    Raises `ModelError` where the lock file disagrees, about what no picture depends on too.
    """
    files = sorted(path for path in folder.rglob("*") if path.suffix in MODEL_SUFFIXES)
    if not any(path.suffix == ".safetensors" for path in files):
        raise ModelError(f"{folder} holds no safetensors; pickle weights are refused")
    found = {str(path.relative_to(folder)): _sha256(path) for path in files if path.name != LOCK}
    lock = folder / LOCK
    expected: dict[str, str] = json.loads(lock.read_text()) if lock.exists() else {}
    for name, digest in expected.items():
        actual = found.get(name) or (_sha256(folder / name) if (folder / name).exists() else None)
        if actual != digest:
            state = "is missing" if actual is None else "is damaged (its sha256 differs)"
            raise ModelError(f"{folder / name} {state}: restore it from {LOCK}'s version")
    drawn = {name: found[name] for name in found if not name.startswith(NO_PICTURE)}
    return hashlib.sha256(json.dumps(drawn, sort_keys=True).encode()).hexdigest()


def _fetched(
    source: str, revision: str | None, hub: HubFolders, *, part: bool = False
) -> tuple[Path, str]:
    folder, digest = _own_folder(source, revision, hub, part)
    if folder is not None:
        return folder, digest
    folder = fetch_weights(source, revision, hub, part=part)
    return folder, folder.name


def _revision(source: str, revision: str | None, hub: HubFolders, *, part: bool = False) -> str:
    folder, digest = _own_folder(source, revision, hub, part)
    return digest if folder is not None else find_commit(source, revision, hub, part=part)


def _own_folder(
    source: str, revision: str | None, hub: HubFolders, part: bool
) -> tuple[Path | None, str]:
    """Find the operator's folder of a model, filled from the hub where that is asked for, and its
    digest; None for one that the cache holds."""
    if Path(source).is_dir():
        return Path(source), _checked(Path(source), revision)
    if part or hub.local_dir is None:
        return None, ""
    folder = fetch_weights(source, revision, hub)
    return folder, verify_weights(folder)


def _checked(folder: Path, revision: str | None) -> str:
    """The digest of a folder; raises `ModelError` where it does not begin with `revision`."""
    digest = verify_weights(folder)
    if revision is not None and not digest.startswith(revision):
        raise ModelError(
            f"{folder} holds other weights than were asked for: their digest is {digest[:12]}..., "
            f"and not {revision}; leave @{revision} out to take them as they are"
        )
    return digest


def _parts(spec: ModelSpec) -> list[tuple[Path, str]]:
    return [_fetched(*_split(place), spec.hub, part=True) for place in spec.parts.values()]


def _split(place: str) -> tuple[str, str | None]:
    """ "hub_id@revision" or a folder as its two parts."""
    if Path(place).is_dir():
        return place, None
    hub_id, _, revision = place.partition("@")
    return hub_id, revision or None


def _joined(revisions: list[str]) -> str:
    return "+".join(revisions)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
