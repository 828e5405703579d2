"""The models that rayedit knows: facts, each with its source. Choices live in `configs/`."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, replace
from pathlib import Path

from engine.errors import ModelError, ModelUnknown, OptionInvalid
from engine.fields import nearest
from engine.options import EditOptions

PIX2PIX_EDITOR = "engine.models.instruct_pix2pix:InstructPix2Pix"


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """What must be known of a model before its weights are loaded. Picklable.

    `source`: a folder or a hub id; `editor`: "module:class" of its `Editor`;
    `resolution`: side in px that it was trained at; `multiple`: every side is a multiple of it
    (VAE factor x UNet downsampling); `max_side`: longest side in px; `half`: dtype on a GPU;
    `scripts`: writing systems that its text encoder knows (Unicode name prefixes).
    """

    name: str
    source: str
    editor: str = PIX2PIX_EDITOR
    revision: str | None = None
    resolution: int = 512
    multiple: int = 64
    max_side: int = 1024
    half: str = "float16"
    num_inference_steps: int = 20
    guidance_scale: float = 7.5
    image_guidance_scale: float = 1.5
    scripts: tuple[str, ...] = ("LATIN",)

    def resolve(self, options: EditOptions, seed: int) -> EditOptions:
        """`options` with every `None` (but `size`) replaced by this model's default."""
        defaults = {
            "seed": seed,
            "num_inference_steps": self.num_inference_steps,
            "guidance_scale": self.guidance_scale,
            "image_guidance_scale": self.image_guidance_scale,
        }
        missing = {
            name: value for name, value in defaults.items() if getattr(options, name) is None
        }
        return options.model_copy(update=missing)

    def check_size(self, size_px: tuple[int, int] | None) -> None:
        """Raises `OptionInvalid` unless both sides are multiples within the model's bound."""
        for side in size_px or ():
            if side % self.multiple or not self.multiple <= side <= self.max_side:
                best = min(max(round(side / self.multiple), 1) * self.multiple, self.max_side)
                raise OptionInvalid(
                    f"size: {side} px is not possible with model {self.name}; sides are multiples "
                    f"of {self.multiple} up to {self.max_side}, the nearest is {best}",
                    param="size",
                )


MODELS: dict[str, ModelSpec] = {
    # Trained by this project (training/): 3 and 1.3 come nearest to the true edits it was taught,
    # 24.2 dB on 90 held-out edits against 22.5 dB at 5 and 1.3.
    "pocket": ModelSpec(
        name="pocket",
        source=str(Path(__file__).parent / "models" / "pocket"),
        resolution=128,
        multiple=16,
        max_side=512,
        guidance_scale=3.0,
        image_guidance_scale=1.3,
        scripts=("LATIN", "CJK"),
    ),
    # Brooks et al. 2023; guidance 7.5 and 1.5 from its model card, 512 px from its configuration.
    # No revision is pinned until someone with a hub verifies one; the first load records it.
    "instruct-pix2pix": ModelSpec(name="instruct-pix2pix", source="timbrooks/instruct-pix2pix"),
}

# `_class_name` of a folder's model_index.json -> its Editor.
EDITORS = {"StableDiffusionInstructPix2PixPipeline": PIX2PIX_EDITOR}

_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")


def find_model(name: str, resolution: int | None = None) -> ModelSpec:
    """The spec of a registered name, a diffusers folder, or `hub_id@revision`.

    `resolution` in px overrides the model's. Raises `ModelUnknown` and `ModelError`.
    """
    spec = MODELS.get(name) or _unregistered(name)
    if resolution is None:
        return spec
    spec.check_size((resolution, resolution))
    return replace(spec, resolution=resolution)


def _unregistered(name: str) -> ModelSpec:
    if Path(name).is_dir():
        folder = Path(name).resolve()
        known = (spec for spec in MODELS.values() if Path(spec.source).resolve() == folder)
        return next(known, None) or _folder_spec(folder)
    hub_id, _, revision = name.partition("@")
    if _HUB_ID.fullmatch(hub_id) and not name.startswith("."):
        return ModelSpec(name=hub_id, source=hub_id, revision=revision or None)
    raise ModelUnknown(
        f'there is no model "{name}": give a registered name, a diffusers folder, or '
        f"hub_id@revision. {nearest(name, MODELS)}",
        param="model",
    )


def _folder_spec(folder: Path) -> ModelSpec:
    pipeline = _read_json(folder / "model_index.json").get("_class_name")
    if pipeline not in EDITORS:
        raise ModelError(
            f"{folder}: rayedit has no editor for {pipeline!r}; it knows {', '.join(EDITORS)}"
        )
    vae = _read_json(folder / "vae" / "config.json")
    unet = _read_json(folder / "unet" / "config.json")
    factor = 2 ** (len(vae["block_out_channels"]) - 1)
    multiple = factor * 2 ** (len(unet["block_out_channels"]) - 1)
    side = unet.get("sample_size")
    return ModelSpec(
        name=folder.name,
        source=str(folder),
        editor=EDITORS[pipeline],
        resolution=side * factor if isinstance(side, int) else 512,
        multiple=multiple,
    )


def _read_json(path: Path) -> dict:
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise ModelError(f"{path} is not a readable JSON file: {error}") from None
