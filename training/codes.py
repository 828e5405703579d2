"""Codes: the vector that an instruction of a kind should mean to the UNet.

The text encoder is trained on its own to turn every phrasing of a kind into the code of that kind
(at the end-of-text position and every padding position after it), so that the UNet needs to learn
only what a code does to a picture. A kind's code is the normalised sum of the codes of its parts;
no instruction at all is code 0. Positions before the end of the text hold one fixed code.
"""

from __future__ import annotations

import hashlib

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from training.kinds import KINDS

WIDTH = 192  # hidden size of the text encoder = cross-attention dimension of the UNet
POSITIONS = 77
READING = "(still reading)"


def part_code(part: str) -> NDArray[np.float32]:
    """(192,) float32, unit variance, drawn from a generator seeded with the part's name."""
    seed = int.from_bytes(hashlib.sha256(part.encode()).digest()[:8], "big")
    code = np.random.default_rng(seed).standard_normal(WIDTH).astype(np.float32)
    return np.asarray((code - code.mean()) / code.std(), dtype=np.float32)


def kind_code(parts: tuple[str, ...]) -> NDArray[np.float32]:
    """(192,) float32, unit variance; zeros for no part."""
    if not parts:
        return np.zeros(WIDTH, dtype=np.float32)
    total = np.sum([part_code(part) for part in parts], axis=0)
    return np.asarray(total / total.std(), dtype=np.float32)


def code_table(names: list[str]) -> Tensor:
    """(len(names), 192) float32; the name "" stands for no instruction."""
    return torch.from_numpy(
        np.stack([kind_code(KINDS[name].parts if name else ()) for name in names])
    )


def code_sequences(
    codes: Tensor, lengths: Tensor, noise: float, generator: torch.Generator
) -> Tensor:
    """What an ideal text encoder would return: (N, 192) codes, (N,) lengths -> (N, 77, 192).

    Positions before `lengths` hold the reading code, the others the instruction's; both noisy.
    """
    reading = torch.from_numpy(part_code(READING))
    position = torch.arange(POSITIONS)[None, :, None]
    sequence = torch.where(position < lengths[:, None, None], reading, codes[:, None])
    shared = torch.randn(codes.shape, generator=generator)[:, None]
    return sequence + noise * (shared + torch.randn(sequence.shape, generator=generator))
