"""The settings that a run goes on with as it began; its steps and its learning rate may change."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from engine.errors import OptionInvalid
from engine.weights import verify_weights

SETTLED = (
    *("seed", "resolution", "max_grad_norm", "mixed_precision", "use_ema"),
    *("conditioning_dropout_prob", "last_timestep_share"),
    *("rank", "lora_layers", "train_text_encoder_layers"),
)


def batch_of(options: argparse.Namespace) -> int:
    """Count the triplets of a step, of all workers."""
    own = options.train_batch_size * options.gradient_accumulation_steps
    return int(own * max(1, options.num_workers))


def settings_of(options: argparse.Namespace, data: str) -> dict[str, Any]:
    """List them; `data`: the digest of the triplets."""
    told = {name: getattr(options, name) for name in SETTLED}
    model = verify_weights(Path(options.folder) / "unet")
    return told | {"triplets a step": batch_of(options), "train_data": data, "model": model}


def check_same(kept: dict[str, Any], now: dict[str, Any], folder: Path) -> None:
    """Raises `OptionInvalid` where a run would go on with other settings than it began with."""
    for name, value in now.items():
        if kept.get(name) != value:
            raise OptionInvalid(
                f"{folder} holds a run with {name} {kept.get(name)}, and this one has {value}: say "
                "the same, give it an --output_dir of its own, or --resume_from_checkpoint none",
                param=name,
            )
