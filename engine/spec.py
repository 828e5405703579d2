"""What must be known of a model before its weights are loaded."""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal, Self

from engine.adapter import Adapter
from engine.control_window import ControlWindow
from engine.errors import ModelError, OptionInvalid
from engine.guidance import GuidanceKind
from engine.hub import DEFAULT_FOLDERS, HubFolders
from engine.options import MAX_STEPS, STEPS_OF_QUALITY, EditOptions, ResolvedOptions

CanvasRule = Literal["side", "area", "at_most_area"]

# The options of an edit that some models have and others do not.
CANNY_THRESHOLDS = ("canny_low_threshold", "canny_high_threshold")
FAMILY_OPTIONS = (
    *("guidance_scale", "image_guidance_scale", "auto_guidance", "true_cfg_scale"),
    *("negative_prompt", "strength", "controlnet_conditioning_scale", "control_guidance_start"),
    *("control_guidance_end", *CANNY_THRESHOLDS, "strict_instruction"),
)
# Those that a model has by having others.
_IMPLIED = {"auto_guidance": frozenset({"guidance_scale", "image_guidance_scale"})}
# The fields of a spec that change no pixel: where the weights lie (the digests of what was found
# there tell them apart), and what is only said of a model.
_FACTS = frozenset({"source", "revision", "hub", "parts", "scripts", "licence", "cuda_graphs"})
_REFUSALS = frozenset({"strict_instruction"})  # options that change no pixel: made, or refused


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """What must be known of a model before its weights are loaded. Picklable."""

    name: str
    source: str  # a folder in the diffusers layout, or a hub id
    editor: str  # "module:class" of its `Editor`
    revision: str | None = None  # of the hub, or how the digest of the folder's weights begins
    hub: HubFolders = DEFAULT_FOLDERS  # where it is kept
    guidance: GuidanceKind = "embedded"
    options: frozenset[str] = frozenset()  # those of `FAMILY_OPTIONS` that it has
    defaults: Mapping[str, Any] = field(default_factory=dict)  # of options, and always of steps
    # Pictures that one edit may start from; 0: it paints, and of its source the shape alone counts.
    max_sources: int = 1
    canvas: CanvasRule = "side"  # see `engine.canvas`
    resolution: int = 512  # side in px that it was trained at
    sizes: tuple[tuple[int, int], ...] = ()  # (width, height) in px, of `resize: stretch`
    multiple: int = 64  # every side of the canvas is a multiple of it
    max_side: int = 1024  # longest side in px
    half: str = "float16"  # dtype on a GPU
    cuda_graphs: bool = True  # its calls can be captured
    scripts: tuple[str, ...] = ("LATIN",)  # that its text encoder knows (Unicode name prefixes)
    parts: Mapping[str, str] = field(default_factory=dict)  # further weights: folder or hub id
    styles: Mapping[str, Adapter] = field(default_factory=dict)  # by name, those with a LoRA
    licence: str = "unknown"  # of the weights

    @property
    def has_control(self) -> bool:
        """True where an edit's second picture is a control image, for which edges may stand in."""
        return "controlnet_conditioning_scale" in self.options

    def resolve(self, options: EditOptions, seed: int) -> ResolvedOptions:
        """Fill what is not given with `seed` and this model's defaults.

        Raises `OptionInvalid` for an option that this model does not have.
        """
        given = _given(options)
        self.check_has(given)
        defaults = dict(self.defaults)
        if _asks_for_a_size(given):
            defaults.pop("restore_size", None)
        self._check_lora_scale(options)
        if options.style in self.styles:
            defaults["lora_scale"] = 1.0
        values = {"seed": seed, **defaults, **given}
        if "num_inference_steps" not in given and "quality" in values:
            share = STEPS_OF_QUALITY[values["quality"]]
            steps = math.ceil(share * self.defaults["num_inference_steps"])
            values["num_inference_steps"] = min(steps, MAX_STEPS)
        resolved = ResolvedOptions(**values)
        if self.guidance == "true_cfg":
            self._check_pair(given, resolved)
        if self.has_control:
            _check_thresholds(given, resolved)
            ControlWindow.of(resolved)
        return resolved

    def preset(self, options: EditOptions) -> Self:
        """Return this model with other defaults: all that `options` says and no model does anyway.

        Raises `OptionInvalid` for an option that the model does not have, for a size that it cannot
        do, and for a seed or a style, which are of each edit.
        """
        given = _given(options)
        for name in ("seed", "style"):
            if name in given:
                raise OptionInvalid(f"{name} is of each edit, and no default", param=name)
        self.check_has(given)
        self.check_size(options.size_px)
        defaults = dict(self.defaults)
        if _asks_for_a_size(given):
            defaults.pop("restore_size", None)
        fields = ResolvedOptions.model_fields
        told = {k: v for k, v in given.items() if k in defaults or v != fields[k].default}
        return replace(self, defaults={**defaults, **told})

    def with_controlnet(self, place: str) -> Self:
        """Return this model with the ControlNet of another `place`, a folder or hub_id@revision.

        Raises `OptionInvalid` where it has none.
        """
        if not self.has_control:
            raise OptionInvalid(
                f"model {self.name} has no ControlNet: leave controlnet out", param="controlnet"
            )
        folder = Path(place)
        found = str(folder.resolve()) if folder.is_dir() else place
        return replace(self, parts={**self.parts, "controlnet": found})

    def pinned(self, revision: str) -> Self:
        """Return this model with one revision of its weights, joined with those of its parts as
        `weights.find_revision` joins them."""
        own, *others = revision.split("+")
        parts = {
            part: f"{place.partition('@')[0]}@{other}"
            for (part, place), other in zip(self.parts.items(), others, strict=False)
        }
        return replace(self, revision=own, parts={**self.parts, **parts})

    def without(self, option: str) -> Self:
        """Return the spec of a model that is like this one and does not have `option`."""
        defaults = {name: value for name, value in self.defaults.items() if name != option}
        return replace(self, options=self.options - {option}, defaults=defaults)

    def of_folder(self, folder: Path, **found: Any) -> Self:
        """Return the spec of a model like this one in a folder, which gives it its name.

        `found`: fields that the folder's configuration tells; its licence is in none of them.
        """
        place = {"name": folder.name, "source": str(folder), "revision": None}
        return replace(self, **{**place, "licence": "unknown", **found})

    def has(self, option: str) -> bool:
        """Tell whether edits by this model have an option."""
        needed = _IMPLIED.get(option, frozenset({option}))
        return option not in FAMILY_OPTIONS or needed <= self.options

    def check_has(self, given: Collection[str]) -> None:
        """Refuse the first option that the model does not have; raises `OptionInvalid`."""
        for name in FAMILY_OPTIONS:
            if name in given and not self.has(name):
                raise OptionInvalid(f"model {self.name} has no {name}; {self._takes()}", param=name)

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

    def check_sources(self, count: int, param: str = "image") -> None:
        """Refuse more pictures than the model edits from; raises `OptionInvalid`.

        `param`: the field that holds them, for the message.
        """
        most = max(self.max_sources, 1)  # one that paints has a blank canvas
        if count > most:
            takes = "one source image" if most == 1 else f"at most {most} source images"
            raise OptionInvalid(
                f"{param}: model {self.name} takes {takes}; got {count}", param=param
            )

    def identity(self) -> dict[str, Any]:
        """Return all of the spec that can change a pixel, as JSON's types, by name.

        Raises `ModelError` for a value that JSON has no type for.
        """
        found = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in _FACTS}
        found["options"] = sorted(self.options - _REFUSALS)
        found["styles"] = {}  # the adapter of an edit is in its own fingerprint
        try:
            return json.loads(json.dumps(found, sort_keys=True, allow_nan=False))
        except (TypeError, ValueError) as error:
            raise ModelError(f"model {self.name}: its spec is not serialisable: {error}") from None

    def _check_lora_scale(self, options: EditOptions) -> None:
        if options.lora_scale is not None and options.style not in self.styles:
            known = ", ".join(self.styles) or "none"
            where = "without a style that has a LoRA"
            if options.style is not None:
                where = f"in style {options.style}, which has no LoRA"
            raise OptionInvalid(
                f"lora_scale {options.lora_scale} has no effect {where}; model {self.name} has "
                f"{known}",
                param="lora_scale",
            )

    def _check_pair(self, given: Mapping[str, Any], resolved: ResolvedOptions) -> None:
        """Of `true_cfg_scale` and `negative_prompt` one without the other changes nothing."""
        if resolved.negative_prompt is None and given.get("true_cfg_scale", 1.0) > 1.0:
            raise OptionInvalid(
                f"true_cfg_scale {given['true_cfg_scale']} needs a negative_prompt with model "
                f"{self.name}, which may be empty",
                param="true_cfg_scale",
            )
        if "negative_prompt" in given and resolved.scale("true_cfg_scale") == 1.0:
            raise OptionInvalid(
                f"negative_prompt has no effect on model {self.name} while true_cfg_scale is 1: "
                "give one above it, or leave the negative prompt out",
                param="negative_prompt",
            )

    def _takes(self) -> str:
        names = [name for name in FAMILY_OPTIONS if self.has(name)]
        return f"it takes {', '.join(names)}" if names else "it takes none of that kind"


def _check_thresholds(given: Collection[str], resolved: ResolvedOptions) -> None:
    low, high = (resolved.scale(name) for name in CANNY_THRESHOLDS)
    if low > high:
        raise OptionInvalid(
            f"canny_low_threshold {low} is above canny_high_threshold {high}: an edge begins above "
            "the high one and goes on above the low one",
            param=next((name for name in CANNY_THRESHOLDS if name in given), None),
        )


def _given(options: EditOptions) -> dict[str, Any]:
    """List what was said: an option that was left out, or is None, was not."""
    said = options.model_fields_set
    return {name: value for name, value in options if name in said and value is not None}


def _asks_for_a_size(given: Mapping[str, Any]) -> bool:
    """Tell whether a picture of another size than the model's own or the source's is wanted."""
    return "size" in given or given.get("resize") == "crop"
