"""The models that rayedit knows by name, and how it finds any other. Choices: `configs/`."""

from __future__ import annotations

import importlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal

from engine.errors import EngineError, ModelError, ModelUnknown, OptionInvalid
from engine.fields import nearest
from engine.guidance import GuidanceKind
from engine.hub import fetch_configs, fetch_model_index
from engine.options import EditOptions, ResolvedOptions

CanvasRule = Literal["side", "area", "at_most_area", "sizes"]

# The options of an edit that some models have and others do not.
FAMILY_OPTIONS = (
    "guidance_scale",
    "image_guidance_scale",
    "true_cfg_scale",
    "negative_prompt",
    "strength",
)
# The fields of a spec that change no pixel: where the weights lie (the digests of what was found
# there tell them apart), and what is only said of a model.
_FACTS = frozenset({"source", "revision", "parts", "scripts", "licence"})


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """What must be known of a model before its weights are loaded. Picklable."""

    name: str
    source: str  # a folder in the diffusers layout, or a hub id
    editor: str  # "module:class" of its `Editor`
    revision: str | None = None  # of the hub
    guidance: GuidanceKind = "embedded"
    options: frozenset[str] = frozenset()  # those of `FAMILY_OPTIONS` that it has
    defaults: Mapping[str, Any] = field(default_factory=dict)  # of options, and always of steps
    max_sources: int = 1  # pictures that one edit may start from
    canvas: CanvasRule = "side"  # see `engine.canvas`
    resolution: int = 512  # side in px that it was trained at
    sizes: tuple[tuple[int, int], ...] = ()  # (width, height) in px, of the canvas rule `sizes`
    multiple: int = 64  # every side of the canvas is a multiple of it
    max_side: int = 1024  # longest side in px
    half: str = "float16"  # dtype on a GPU
    scripts: tuple[str, ...] = ("LATIN",)  # that its text encoder knows (Unicode name prefixes)
    parts: Mapping[str, str] = field(default_factory=dict)  # further weights: folder or hub id
    styles: Mapping[str, str] = field(default_factory=dict)  # adapters: name -> file
    licence: str = "unknown"  # of the weights

    def resolve(self, options: EditOptions, seed: int) -> ResolvedOptions:
        """Fill what is not given with `seed` and this model's defaults.

        Raises `OptionInvalid` for an option that this model does not have.
        """
        given = {name: value for name, value in options if value is not None}
        for name in FAMILY_OPTIONS:
            if name in given and name not in self.options:
                raise OptionInvalid(f"model {self.name} has no {name}; {self._takes()}", param=name)
        return ResolvedOptions(**{"seed": seed, **self.defaults, **given})

    def check_size(self, size_px: tuple[int, int] | None) -> None:
        """Refuse a (width, height) in px that the model cannot do; raises `OptionInvalid`."""
        for side in size_px or ():
            if side % self.multiple or not self.multiple <= side <= self.max_side:
                best = min(max(round(side / self.multiple), 1) * self.multiple, self.max_side)
                raise OptionInvalid(
                    f"size: {side} px is not possible with model {self.name}; sides are multiples "
                    f"of {self.multiple} up to {self.max_side}, the nearest is {best}",
                    param="size",
                )

    def identity(self) -> dict[str, Any]:
        """Return all of the spec that can change a pixel, as JSON's types, by name.

        Raises `ModelError` for a value that JSON has no type for.
        """
        found = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in _FACTS}
        found["options"] = sorted(self.options)
        try:
            return json.loads(json.dumps(found, sort_keys=True, allow_nan=False))
        except (TypeError, ValueError) as error:
            raise ModelError(f"model {self.name}: its spec is not serialisable: {error}") from None

    def _takes(self) -> str:
        names = [name for name in FAMILY_OPTIONS if name in self.options]
        return f"it takes {', '.join(names)}" if names else "it takes none of that kind"


PIX2PIX_EDITOR = "engine.models.instruct_pix2pix:InstructPix2Pix"
PIX2PIX_OPTIONS = frozenset({"guidance_scale", "image_guidance_scale", "negative_prompt"})
# 7.5 and 1.5 from the model card of timbrooks/instruct-pix2pix, 20 steps from its example;
# diffusers takes a missing negative prompt for an empty one.
PIX2PIX_DEFAULTS = {
    "num_inference_steps": 20,
    "guidance_scale": 7.5,
    "image_guidance_scale": 1.5,
    "negative_prompt": "",
}

MODELS: dict[str, ModelSpec] = {
    # Trained by this project (training/): 3 and 1.3 come nearest to the true edits it was taught,
    # 24.2 dB on 90 held-out edits against 22.5 dB at 5 and 1.3.
    "pocket": ModelSpec(
        name="pocket",
        source=str(Path(__file__).parent / "models" / "pocket"),
        editor=PIX2PIX_EDITOR,
        guidance="two_scale",
        options=PIX2PIX_OPTIONS,
        defaults={**PIX2PIX_DEFAULTS, "guidance_scale": 3.0, "image_guidance_scale": 1.3},
        resolution=128,
        multiple=16,
        max_side=512,
        scripts=("LATIN", "CJK"),
        licence="Apache-2.0",
    ),
    # Brooks et al. 2023; 512 px from its configuration, the licence from its model card.
    # No revision is pinned until someone with a hub verifies one; the first load records it.
    "instruct-pix2pix": ModelSpec(
        name="instruct-pix2pix",
        source="timbrooks/instruct-pix2pix",
        editor=PIX2PIX_EDITOR,
        guidance="two_scale",
        options=PIX2PIX_OPTIONS,
        defaults=PIX2PIX_DEFAULTS,
        licence="MIT",
    ),
}

# `_class_name` of a folder's model_index.json -> its Editor.
EDITORS = {"StableDiffusionInstructPix2PixPipeline": PIX2PIX_EDITOR}

_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")


def find_model(name: str, resolution: int | None = None) -> ModelSpec:
    """Find the spec of a registered name, a diffusers folder, or `hub_id@revision`.

    `resolution` in px overrides the model's. Of a hub id that is not registered, small
    configuration files are fetched, or taken from the cache. Raises `ModelUnknown`, `ModelError`.
    """
    spec = MODELS.get(name) or _unregistered(name)
    if resolution is None:
        return spec
    spec.check_size((resolution, resolution))
    canvas: CanvasRule = "area" if spec.canvas == "sizes" else spec.canvas
    return replace(spec, resolution=resolution, canvas=canvas)


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


def _unregistered(name: str) -> ModelSpec:
    if Path(name).is_dir():
        folder = Path(name).resolve()
        known = (spec for spec in MODELS.values() if Path(spec.source).resolve() == folder)
        return next(known, None) or _describe(folder, _editor_of(folder / "model_index.json", name))
    hub_id, _, revision = name.partition("@")
    if _HUB_ID.fullmatch(hub_id) and not name.startswith("."):
        editor = _editor_of(fetch_model_index(hub_id, revision or None), name)
        spec = _describe(fetch_configs(hub_id, revision or None), editor)
        return replace(spec, name=hub_id, source=hub_id, revision=revision or None)
    raise ModelUnknown(
        f'there is no model "{name}": give a registered name, a diffusers folder, or '
        f"hub_id@revision. {nearest(name, MODELS)}",
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
