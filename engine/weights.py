"""Where a model's weights are, and whether they are the ones that were meant. No torch."""

from __future__ import annotations

import hashlib
import json
from functools import lru_cache
from pathlib import Path

from engine.errors import ModelError
from engine.registry import ModelSpec

LOCK = "weights.sha256.json"  # {relative file name: sha256}, beside model_index.json
_MODEL_SUFFIXES = (".safetensors", ".json", ".txt", ".model")
_HUB_FILES = [f"*{suffix}" for suffix in _MODEL_SUFFIXES]


def find_weights(spec: ModelSpec) -> tuple[Path, str]:
    """(local folder, revision) of a model; fetches a hub id, verifies a folder with a lock file."""
    folder = Path(spec.source)
    if folder.is_dir():
        return folder, verify_weights(folder)
    from huggingface_hub import snapshot_download

    try:
        path = snapshot_download(spec.source, revision=spec.revision, allow_patterns=_HUB_FILES)
    except Exception as error:  # the hub client raises a dozen kinds
        raise ModelError(
            f"model {spec.name}: cannot fetch {spec.source} from the hub ({error}); fetch it where "
            "there is a network and pass its folder with --model"
        ) from None
    return Path(path), Path(path).name


def find_revision(spec: ModelSpec) -> str:
    """What identifies a model's weights, without loading them: the digest of a folder, or the
    commit of a hub id, as the hub or, without one, the local cache has it."""
    folder = Path(spec.source)
    if folder.is_dir():
        return verify_weights(folder)
    from huggingface_hub import HfApi, snapshot_download

    try:
        return str(HfApi().model_info(spec.source, revision=spec.revision).sha)
    except Exception as error:  # the hub client raises a dozen kinds
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
    try:
        cached = snapshot_download(spec.source, revision=spec.revision, local_files_only=True)
    except Exception:
        raise ModelError(
            f"model {spec.name}: the hub does not answer ({reason}) and it is not in the cache; "
            "pass its folder with --model"
        ) from None
    return Path(cached).name


def weights_bytes(spec: ModelSpec) -> int | None:
    """What a model's weights take on disk; `None` where no folder here holds them."""
    folder = Path(spec.source)
    if not folder.is_dir():
        return None
    return sum(file.stat().st_size for file in folder.rglob("*.safetensors"))


@lru_cache(maxsize=16)
def verify_weights(folder: Path) -> str:
    """The digest of all that a model's pictures depend on: weights, configurations, tokenizer.

    Raises `ModelError` where the lock file disagrees.
    """
    files = sorted(path for path in folder.rglob("*") if path.suffix in _MODEL_SUFFIXES)
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
    return hashlib.sha256(json.dumps(found, sort_keys=True).encode()).hexdigest()


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
