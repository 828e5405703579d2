"""The CLIPTextModel of pocket with its tokenizer: instructions -> sequences for the UNet."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from training.codes import POSITIONS, WIDTH

LAYERS, HEADS, INNER = 3, 4, 512


def new_text_model(tokenizer: CLIPTokenizer) -> CLIPTextModel:
    """192 wide, 3 layers, 77 positions."""
    config = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=WIDTH,
        intermediate_size=INNER,
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
        max_position_embeddings=POSITIONS,
        projection_dim=WIDTH,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        attention_dropout=0.0,
        initializer_factor=1.0,
    )
    return CLIPTextModel(config)


@dataclass
class TextEncoder:
    """Tokenizer and model; the model is only read."""

    tokenizer: CLIPTokenizer
    model: CLIPTextModel

    @classmethod
    def load(cls, folder: Path) -> TextEncoder:
        """From the `tokenizer` and `text_encoder` folders under `folder`."""
        model = CLIPTextModel.from_pretrained(folder / "text_encoder", dtype=torch.float32)
        return cls(CLIPTokenizer.from_pretrained(folder / "tokenizer"), model.eval())

    def tokens(self, texts: list[str], length: int = POSITIONS) -> Tensor:
        """(N, length) token ids, cut and padded."""
        found = self.tokenizer(
            texts, padding="max_length", max_length=length, truncation=True, return_tensors="pt"
        )
        return found.input_ids

    @torch.no_grad()
    def sequences(self, texts: list[str]) -> Tensor:
        """(N, 77, 192) float32, as the pipeline hands them to the UNet."""
        return self.model(self.tokens(texts)).last_hidden_state

    @torch.no_grad()
    def meanings(self, texts: list[str]) -> Tensor:
        """(N, 192): the last position, which has read the whole instruction."""
        return self.sequences(texts)[:, -1]
