"""What the UNet is told: ideal codes, or the text encoder's reading of a drawn phrasing."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from training.codes import POSITIONS, code_sequences, code_table
from training.kinds import KINDS

CODE_NOISE = 0.12  # standard deviation; codes have unit variance


class Conditioning(Protocol):
    """Names of kinds -> sequences (N, 77, 192); "" stands for no instruction."""

    def __call__(self, names: list[str]) -> Tensor: ...


class IdealCodes:
    """Codes as a perfect text encoder would return them, with noise and random text lengths."""

    def __init__(self, seed: int, noise: float = CODE_NOISE) -> None:
        self.names = ["", *KINDS]
        self.table = code_table(self.names)
        self.noise = noise
        self.generator = torch.Generator().manual_seed(seed)

    def __call__(self, names: list[str]) -> Tensor:
        codes = self.table[torch.tensor([self.names.index(name) for name in names])]
        empty = torch.tensor([not name for name in names])
        lengths = torch.randint(4, POSITIONS // 2, (len(names),), generator=self.generator)
        lengths = torch.where(empty, 1, lengths)
        return code_sequences(codes, lengths, self.noise, self.generator)


class ReadInstructions:
    """The trained text encoder (frozen) on training phrasings drawn from the phrase book."""

    def __init__(self, folder: Path, seed: int) -> None:
        from training.phrase_book import PhraseBook
        from training.text_encoder import TextEncoder

        self.encoder = TextEncoder.load(folder)
        self.book = PhraseBook(seed)

    def __call__(self, names: list[str]) -> Tensor:
        texts = [self.book.draw(name) if name else "" for name in names]
        return self.encoder.sequences(texts)


def open_conditioning(choice: str, seed: int) -> Conditioning:
    """`codes`, or the folder that `training.train_text` wrote."""
    return IdealCodes(seed) if choice == "codes" else ReadInstructions(Path(choice), seed)
