"""LoRA (Hu et al. 2021): the low-rank weights of a file, for the layers of one denoiser."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from math import sqrt
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from engine.adapter import Adapter, halves_of, sha256_of
from engine.models import Adapting

Layers = Mapping[str, nn.Linear | nn.Conv2d]

_HALF = re.compile(r"\.lora[_.](A|down)(\.default)?\.weight$")  # of peft and kohya, the first one
_PEFT = "base_model.model."  # what the names in peft's own files begin with
_METADATA = "lora_adapter_metadata"  # where diffusers writes peft's configuration


@dataclass(frozen=True, slots=True)
class LowRank:
    """What is added to a layer: `up` after `down`, both without bias."""

    down: Tensor  # (rank, in) of a linear layer, (rank, in, h, w) of a convolution
    up: Tensor  # (out, rank), (out, rank, 1, 1); alpha / rank is in it


@dataclass(frozen=True, slots=True)
class AdapterWeights:
    """The weights of an adapter, by the name of the layer that each one is added to."""

    layers: Mapping[str, LowRank]

    @property
    def nbytes(self) -> int:
        """Bytes of all of them."""
        return sum(low.down.nbytes + low.up.nbytes for low in self.layers.values())

    def to(self, device: torch.device, dtype: torch.dtype) -> AdapterWeights:
        """Copy them to a device, as a dtype."""
        return AdapterWeights(
            {
                name: LowRank(low.down.to(device, dtype), low.up.to(device, dtype))
                for name, low in self.layers.items()
            }
        )


def layers_of(editor: Adapting) -> Layers:
    """List the layers of a denoiser that can be adapted, by name."""
    return {
        name: layer
        for name, layer in editor.denoiser.named_modules()
        if isinstance(layer, nn.Linear | nn.Conv2d)
    }


def read_lora(adapter: Adapter, editor: Adapting, layers: Layers) -> AdapterWeights:
    """Read an adapter's file for `layers`, the editor's, onto the CPU in float32.

    Its layout may be diffusers', peft's or kohya's, as diffusers knows them for the family. Raises
    `AdapterUnusable` for a file that has changed, or is of another model.
    """
    raw = _read(adapter)
    config = _config(adapter)
    named = _named(adapter, raw, editor, layers)
    found: dict[str, LowRank] = {}
    for down, up in list(halves_of(named)):
        if down not in named or up not in named:
            raise adapter.unusable(f"lacks the other half of {up if up in named else down}")
        name, low = down.removesuffix(".lora_A.weight"), LowRank(named.pop(down), named.pop(up))
        _check_fits(adapter, name, low, layers)
        found[name] = LowRank(low.down, low.up * _scale(config, name, len(low.down)))
    if named:
        raise adapter.unusable(f"holds {next(iter(named))}, which is no part of a LoRA")
    return AdapterWeights(found)


def _read(adapter: Adapter) -> dict[str, Tensor]:
    """Read the tensors of the file that was named, with each alpha multiplied in."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        if sha256_of(Path(adapter.path)) != adapter.sha256:
            raise adapter.unusable("has changed since it was named: start again")
        raw = {name: tensor.float() for name, tensor in load_file(adapter.path).items()}
    except (OSError, SafetensorError) as error:
        raise adapter.unusable(f"cannot be read ({_without_path(error)})") from None
    for name, tensor in raw.items():
        if not torch.isfinite(tensor).all():
            raise adapter.unusable(f"holds NaN or infinity in {name}")
    alphas = {name: float(raw.pop(name)) for name in list(raw) if name.endswith(".alpha")}
    for down, up in halves_of(raw):
        rank = len(raw[down])
        raw[up] = raw[up] * (alphas.get(_HALF.sub(".alpha", down), rank) / rank)
    return raw


def _without_path(error: Exception) -> object:
    """What an error says, without the place on the server that one of the system names."""
    return error.strerror or "no reason" if isinstance(error, OSError) else error


def _config(adapter: Adapter) -> dict[str, Any]:
    """Read peft's configuration: of the file's folder, or of its metadata; else it is empty."""
    from safetensors import safe_open

    beside = Path(adapter.path).with_name("adapter_config.json")
    try:
        if beside.is_file():
            return json.loads(beside.read_text())
        with safe_open(adapter.path, framework="pt") as opened:
            kept = json.loads((opened.metadata() or {}).get(_METADATA, "{}"))
    except (OSError, ValueError) as error:
        reason = _without_path(error)
        raise adapter.unusable(f"has a configuration that cannot be read ({reason})") from None
    return {name.partition(".")[2]: value for name, value in kept.items()}


def _scale(config: Mapping[str, Any], name: str, rank: int) -> float:
    """The factor on a layer's low-rank weight that peft's configuration says, as peft does."""
    patterns = config.get("alpha_pattern") or {}
    fitting = (alpha for key, alpha in patterns.items() if re.match(rf"(.*\.)?({key})$", name))
    alpha = next(fitting, config.get("lora_alpha"))
    if alpha is None:
        return 1.0
    return float(alpha) / (sqrt(rank) if config.get("use_rslora") else rank)


def _named(
    adapter: Adapter, raw: dict[str, Tensor], editor: Adapting, layers: Layers
) -> dict[str, Tensor]:
    """The tensors by peft's names of their layers; another layout is converted by diffusers."""
    part = editor.denoiser_part + "."
    named = {name.removeprefix(_PEFT).removeprefix(part): raw[name] for name in raw}
    if any(name.removesuffix(".lora_A.weight") in layers for name in named):
        return named
    from diffusers import loaders
    from diffusers.utils import convert_unet_state_dict_to_peft

    try:
        loader = getattr(loaders, editor.lora_loader)
        converted = loader.lora_state_dict(dict(raw), unet_config=editor.denoiser.config)
    except (AssertionError, AttributeError, LookupError, RuntimeError, ValueError) as error:
        reason = f"{type(error).__name__}: {str(error)[:200]}"
        raise adapter.unusable(f"is of another model, or of an unknown layout ({reason})") from None
    state = converted[0] if isinstance(converted, tuple) else converted
    return {
        name.removeprefix(part): tensor
        for name, tensor in convert_unet_state_dict_to_peft(state).items()
    }


def _check_fits(adapter: Adapter, name: str, low: LowRank, layers: Layers) -> None:
    """Refuse a low-rank weight of a layer that is not there, or of another shape."""
    layer = layers.get(name)
    if layer is None:
        raise adapter.unusable(f"is of another model: this one has no layer {name}")
    if isinstance(layer, nn.Linear):  # whose weight may be packed
        shape: tuple[int, ...] = (layer.out_features, layer.in_features)
    else:
        shape = tuple(layer.weight.shape)
    rank = len(low.down)
    if low.down.shape != (rank, *shape[1:]) or low.up.shape[:2] != (shape[0], rank):
        theirs = [low.up.shape[0], *low.down.shape[1:]]
        raise adapter.unusable(
            f"is of another model: its {name} is {theirs}, and this one's is {list(shape)}"
        )
