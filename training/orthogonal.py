"""Muon for convolutions: momentum whose update is made orthogonal by Newton-Schulz steps.

After Jordan et al. (2024); the update's size follows AdamW's (0.2 root mean square), so that one
learning rate serves both. Measured here to train the autoencoder in far fewer steps than AdamW.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

COEFFICIENTS = (3.4445, -4.7750, 2.0315)
ITERATIONS = 5


def orthogonalise(matrix: Tensor) -> Tensor:
    """The nearest matrix with singular values near 1; (rows, columns) float32.

    Each step multiplies by a polynomial of the Gram matrix; those commute, so only small square
    matrices are multiplied until the end.
    """
    a, b, c = COEFFICIENTS
    turned = matrix.size(0) > matrix.size(1)
    x = matrix.T if turned else matrix
    x = x / (x.norm() + 1e-7)
    gram = x @ x.T
    identity = torch.eye(len(gram), device=gram.device)
    product = identity
    for _ in range(ITERATIONS):
        step = a * identity + b * gram + c * gram @ gram
        product = step @ product
        gram = step @ gram @ step
    x = product @ x
    return x.T if turned else x


class Muon(torch.optim.Optimizer):
    """For weights of two or more dimensions; biases and norms belong to AdamW."""

    def __init__(self, weights: Iterable[Tensor], lr: float, momentum: float = 0.95) -> None:
        super().__init__(weights, {"lr": lr, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:
        """One update of every weight that has a gradient."""
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is None:
                    continue
                state = self.state[weight]
                kept = state.setdefault("momentum", torch.zeros_like(weight))
                kept.lerp_(weight.grad, 1 - group["momentum"])
                ahead = weight.grad.lerp(kept, group["momentum"]).flatten(1)
                scale = 0.2 * max(ahead.shape) ** 0.5
                weight.add_(orthogonalise(ahead).view_as(weight), alpha=-group["lr"] * scale)
