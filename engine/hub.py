"""What is fetched from the Hugging Face hub: a model's class first, its weights last."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from engine.errors import ModelError

MODEL_INDEX = "model_index.json"
# No pickle, no code; a chat's template is run in a sandbox (transformers).
MODEL_SUFFIXES = (".safetensors", ".json", ".txt", ".model", ".jinja")
# Weights beside model_index.json are the same once more, in one file for other programs.
_ALL_FILES = ["*.json", *(f"*/*{suffix}" for suffix in MODEL_SUFFIXES)]
# A part has a repository of its own, in which it lies beside what is for other programs.
_PART = ["*.json", "diffusion_pytorch_model.safetensors", "diffusion_pytorch_model-*.safetensors"]
# Never read: the same weights in other precisions, and what judges Stable Diffusion's pictures.
_UNREAD = ["*.fp16.*", "*.non_ema.*", "safety_checker/*.safetensors"]
_CONFIGS = [MODEL_INDEX, "*/config.json", "*/*_config.json"]


@dataclass(frozen=True, slots=True)
class HubFolders:
    """Says where an operator keeps what is fetched."""

    cache_dir: str | None = None  # of whatever is fetched; default: Hugging Face's own
    local_dir: str | None = None  # in its place for a model's weights, as plain files


DEFAULT_FOLDERS = HubFolders()


def fetch_model_index(
    hub_id: str, revision: str | None, folders: HubFolders = DEFAULT_FOLDERS
) -> Path:
    """Find `model_index.json` in the cache, or fetch it alone; raises `ModelError`."""
    from huggingface_hub import hf_hub_download, try_to_load_from_cache

    asked = {"revision": revision, "cache_dir": folders.cache_dir}
    cached = try_to_load_from_cache(hub_id, MODEL_INDEX, **asked)
    if isinstance(cached, str):  # a pipeline's class stays what it was
        return Path(cached)
    return _fetch(hub_id, lambda: hf_hub_download(hub_id, MODEL_INDEX, **asked))


def fetch_configs(hub_id: str, revision: str | None, folders: HubFolders = DEFAULT_FOLDERS) -> Path:
    """Fetch the small configuration files; returns their folder; raises `ModelError`."""
    return _snapshot(hub_id, revision, HubFolders(folders.cache_dir), _CONFIGS)


def fetch_weights(
    hub_id: str,
    revision: str | None,
    folders: HubFolders = DEFAULT_FOLDERS,
    *,
    part: bool = False,
) -> Path:
    """Fetch everything that a model is loaded from; returns its folder; raises `ModelError`.

    `part`: of a repository that holds one part of a model, and no `model_index.json`; it goes into
    the cache.
    """
    if part:
        folders = HubFolders(folders.cache_dir)
    folder = _snapshot(hub_id, revision, folders, _PART if part else _ALL_FILES, part=part)
    if not any(folder.rglob("*.safetensors")):  # a cache without a network may hold a part only
        raise ModelError(
            f"{hub_id}: {folder} holds no safetensors; fetch it where there is a network (pickle "
            "weights are refused)"
        )
    return folder


def find_commit(
    hub_id: str,
    revision: str | None,
    folders: HubFolders = DEFAULT_FOLDERS,
    *,
    part: bool = False,
) -> str:
    """Find the commit of a revision, as the hub or, without one, the cache has it.

    Raises `ModelError` where neither knows.
    """
    from huggingface_hub import HfApi, snapshot_download

    try:
        return str(HfApi().model_info(hub_id, revision=revision).sha)
    except Exception as error:  # the hub client raises a dozen kinds
        reason = _first_line(error)
    try:
        cached = snapshot_download(
            hub_id, revision=revision, cache_dir=folders.cache_dir, local_files_only=True
        )
    except Exception:
        raise ModelError(
            f"{hub_id}: the hub does not answer ({reason}) and it is not in the cache; "
            f"{_advice(part)}"
        ) from None
    return Path(cached).name


def _snapshot(
    hub_id: str,
    revision: str | None,
    folders: HubFolders,
    patterns: Sequence[str],
    *,
    part: bool = False,
) -> Path:
    from huggingface_hub import snapshot_download

    return _fetch(
        hub_id,
        lambda: snapshot_download(
            hub_id,
            revision=revision,
            cache_dir=folders.cache_dir,
            local_dir=folders.local_dir,
            allow_patterns=list(patterns),
            ignore_patterns=_UNREAD,
        ),
        part=part,
    )


def _fetch(hub_id: str, call: Callable[[], str], *, part: bool = False) -> Path:
    try:
        return Path(call())
    except Exception as error:  # the hub client raises a dozen kinds
        raise ModelError(
            f"cannot fetch {hub_id} from the hub ({_first_line(error)}) and it is not in the "
            f"cache; fetch it where there is a network and {_advice(part)}"
        ) from None


def _advice(part: bool) -> str:
    """Say where an operator names a folder."""
    return "name its folder as engine.controlnet" if part else "pass its folder with --model"


def _first_line(error: Exception) -> str:
    lines = str(error).splitlines()
    return lines[0] if lines else type(error).__name__
