"""Random weights in which nothing is silent."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

# On every linear and convolutional weight of a model that denoises. torch's initialisation shrinks
# what passes a layer by 1 / sqrt(3); at 1 another source moves FLUX's latents by 3e-4 of their
# largest, and a fault in its tokens could pass for rounding.
GAIN = 2.0


def random_model(make: Callable[[], Any], *, seed: int = 0, gain: float = 1.0) -> Any:
    """The model that `make` makes, in `eval` mode: the same weights for the same seed.

    What begins as zeros or ones (biases, norms, a ControlNet's convolutions) gets noise, or half of
    a network's faults would pass. torch's global generator stays as it was.
    """
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(seed)
        model = make()
        with torch.no_grad():
            for parameter in model.parameters():
                if bool((parameter == parameter.flatten()[0]).all()):
                    parameter.add_(0.1 * torch.randn(parameter.shape))
                if parameter.ndim > 1:
                    parameter.mul_(gain)
    return model.eval()
