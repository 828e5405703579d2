"""Finds a model by its registered name, its folder or its hub id."""

from __future__ import annotations

import importlib
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

from engine.catalogue import MODELS
from engine.errors import EngineError, ModelError, ModelUnknown
from engine.families import EDITORS
from engine.fields import nearest
from engine.hub import DEFAULT_FOLDERS, HubFolders, fetch_configs, fetch_model_index
from engine.spec import ModelSpec

_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")


def find_model(
    name: str, resolution: int | None = None, hub: HubFolders = DEFAULT_FOLDERS
) -> ModelSpec:
    """Find the spec of a registered name, a diffusers folder or a hub id, each also `@revision`.

    `resolution` in px overrides the model's. Of a hub id that is not registered, small
    configuration files are fetched, or taken from the cache; `hub`: where that is. Raises
    `ModelUnknown`, `ModelError`.
    """
    plain, _, revision = name.partition("@")
    if revision and not Path(name).is_dir() and (plain in MODELS or Path(plain).is_dir()):
        spec = (MODELS.get(plain) or _unregistered(plain, hub)).pinned(revision)
    else:
        spec = MODELS.get(name) or _unregistered(name, hub)
    if hub != DEFAULT_FOLDERS:
        spec = replace(spec, hub=hub)
    if resolution is None:
        return spec
    spec.check_size((resolution, resolution))
    return replace(spec, resolution=resolution, sizes=())


def load_editor_class(editor: str) -> Any:
    """Import the `Editor` class that "module:class" names; it brings torch with it."""
    module, _, cls = editor.partition(":")
    return getattr(importlib.import_module(module), cls)


def read_json(path: Path) -> dict[str, Any]:
    """Read a configuration file of a model; raises `ModelError` naming it."""
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise ModelError(f"{path} is not a readable JSON file: {error}") from None


def _unregistered(name: str, hub: HubFolders) -> ModelSpec:
    if Path(name).is_dir():
        folder = Path(name).resolve()
        known = (spec for spec in MODELS.values() if Path(spec.source).resolve() == folder)
        return next(known, None) or _describe(folder, _editor_of(folder / "model_index.json", name))
    hub_id, _, revision = name.partition("@")
    if _HUB_ID.fullmatch(hub_id) and not name.startswith("."):
        editor = _editor_of(fetch_model_index(hub_id, revision or None, hub), name)
        spec = _describe(fetch_configs(hub_id, revision or None, hub), editor)
        return replace(spec, name=hub_id, source=hub_id, revision=revision or None)
    raise ModelUnknown(
        f'there is no model "{name}": give a registered name, a diffusers folder, or '
        f"hub_id@revision. {nearest(hub_id, MODELS)}",
        param="model",
    )


def _editor_of(model_index: Path, name: str) -> str:
    """The editor of a pipeline class; raises `ModelError` where no family has it."""
    pipeline = read_json(model_index).get("_class_name")
    if pipeline not in EDITORS:
        raise ModelError(
            f"{name} is a {pipeline}, which rayedit has no editor for; it knows "
            f"{', '.join(sorted(EDITORS))}"
        )
    return EDITORS[pipeline]


def _describe(folder: Path, editor: str) -> ModelSpec:
    try:
        return load_editor_class(editor).describe(folder)
    except EngineError:
        raise
    except (KeyError, TypeError, ValueError) as error:
        reason = f"{type(error).__name__}: {error}"
        raise ModelError(f"{folder}: its configuration cannot be read ({reason})") from None
