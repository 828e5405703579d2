"""What a denoiser's linear layers are kept as, by torchao or bitsandbytes; diffusers loads them.

Weights alone are quantised, and computed with in the model's dtype: no scale is taken over the rows
of a call, so that no sample depends on its neighbours.
"""

from __future__ import annotations

import logging
from importlib.util import find_spec
from typing import Any

import torch

from engine.config import Quantization
from engine.errors import ModelError

# The package that does it, which is also the extra of rayedit that installs it.
PACKAGES: dict[Quantization, str] = {
    "int8": "torchao",
    "float8": "torchao",
    "nf4": "bitsandbytes",
}

# What these say wherever torchao is installed: that a CPU cannot load its CUDA kernels, and what is
# deprecated between it, torch and diffusers. Nobody who edits can do anything about it.
TALKATIVE = ("torchao", "torch.utils._pytree", "diffusers.quantizers.torchao")


def quiet_torchao() -> None:
    """Have torchao imported without a word; diffusers imports it where it is installed."""
    for name in TALKATIVE:
        logging.getLogger(name).setLevel(logging.ERROR)


def check_quantization(quantization: Quantization, device: torch.device) -> None:
    """Refuse what cannot be done here; raises `ModelError`."""
    if quantization == "none":
        return
    if quantization == "nf4" and device.type == "cpu":  # diffusers' bitsandbytes quantizer
        raise ModelError(
            "quantization nf4 needs a GPU, and the device is cpu: take int8 or float8, or leave it "
            "out"
        )
    package = PACKAGES[quantization]
    if find_spec(package) is None:
        raise ModelError(
            f"quantization {quantization} needs {package}, which is not installed: "
            f"pip install 'rayedit[{package}]'"
        )


def quantization_config(quantization: Quantization, dtype: torch.dtype) -> Any:
    """Return what `from_pretrained` of diffusers takes for it; `None` for "none".

    `dtype`: that the layers compute in.
    """
    if quantization == "none":
        return None
    if quantization == "nf4":
        from diffusers import BitsAndBytesConfig

        return BitsAndBytesConfig(
            load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=dtype
        )
    from diffusers import TorchAoConfig
    from torchao.quantization import Float8WeightOnlyConfig, Int8WeightOnlyConfig

    kinds = {"int8": Int8WeightOnlyConfig, "float8": Float8WeightOnlyConfig}
    return TorchAoConfig(kinds[quantization]())
