"""LoRA files of random weights for a denoiser, in the layouts in which people publish them."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

Halves = tuple[Tensor, Tensor]  # down and up of one layer

# Attention, feed-forward, modulation, convolutions, the way in and the way out.
LAYERS = re.compile(
    r".*(to_q|to_k|to_v|to_out\.0|add_q_proj|conv1|proj_in|proj_out|ff\.net\.0\.proj|norm1\.linear"
    r"|img_mod\.1|img_mlp\.net\.0\.proj|conv_out|to_qkv_mlp_proj)"
)
RANK, ALPHA = 3, 2.0


def halves(denoiser: nn.Module, seed: int, *, rank: int = RANK) -> dict[str, Halves]:
    """Random low-rank weights of many layers, by name: they show, and amplify no rounding."""
    draw = torch.Generator().manual_seed(seed)
    made = {}
    for name, layer in denoiser.named_modules():
        if isinstance(layer, nn.Linear | nn.Conv2d) and LAYERS.fullmatch(name):
            out, *inner = layer.weight.shape
            fan_in = layer.weight[0].numel()
            down = torch.randn(rank, *inner, generator=draw) / fan_in**0.5
            up = 0.2 * torch.randn(out, rank, *[1] * (len(inner) - 1), generator=draw)
            made[name] = down, up
    assert made
    return made


def as_peft(part: str, weights: Mapping[str, Halves]) -> dict[str, Tensor]:
    """What diffusers saves since it uses peft; `part`: unet or transformer."""
    return {
        f"{part}.{name}.lora_{half}.weight": tensor
        for name, pair in weights.items()
        for half, tensor in zip("AB", pair, strict=True)
    }


def as_diffusers(part: str, weights: Mapping[str, Halves]) -> dict[str, Tensor]:
    """What diffusers saved before."""
    found = {}
    for name, pair in weights.items():
        attention = re.fullmatch(r"(.*attn\d)\.(to_[qkv]|to_out)(\.0)?", name)
        layer = f"{attention[1]}.processor.{attention[2]}_lora" if attention else f"{name}.lora"
        for half, tensor in zip(("down", "up"), pair, strict=True):
            found[f"{part}.{layer}.{half}.weight"] = tensor
    return found


def as_kohya(
    weights: Mapping[str, Halves], rename: Callable[[str], str] = lambda name: name
) -> dict[str, Tensor]:
    """What sd-scripts saves: `rename` to the names of the base that it trains on."""
    found = {}
    for name, (down, up) in weights.items():
        stem = "lora_unet_" + rename(name).replace(".", "_")
        found[f"{stem}.lora_down.weight"] = down
        found[f"{stem}.lora_up.weight"] = up
        found[f"{stem}.alpha"] = torch.tensor(ALPHA)
    return found


def save(file: Path, tensors: Mapping[str, Tensor], metadata: dict[str, str] | None = None) -> Path:
    """Write a safetensors file."""
    file.parent.mkdir(parents=True, exist_ok=True)
    save_file(
        {name: tensor.contiguous().clone() for name, tensor in tensors.items()}, file, metadata
    )
    return file


def save_peft_folder(folder: Path, weights: Mapping[str, Halves]) -> Path:
    """Write what peft's own `save_pretrained` does: a file, and alpha in its configuration."""
    named = {
        f"base_model.model.{name}.lora_{half}.weight": tensor
        for name, pair in weights.items()
        for half, tensor in zip("AB", pair, strict=True)
    }
    save(folder / "adapter_model.safetensors", named)
    config = {"peft_type": "LORA", "r": RANK, "lora_alpha": ALPHA, "alpha_pattern": {}}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    return folder
