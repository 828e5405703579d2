"""CLIP as transformers saves it: both towers, and a tokenizer."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from transformers import CLIPConfig, CLIPModel

from tests.tiny import tokenizers
from tests.tiny.weights import random_model


def build(folder: Path) -> Path:
    """Write a CLIP of random weights that looks at 32 px, and return its folder."""
    tower = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2}
    text = {"vocab_size": 2 + 2 * 256, "bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 1}
    config = CLIPConfig(
        text_config={**tower, **text, "num_attention_heads": 4},
        vision_config={**tower, "num_attention_heads": 4, "image_size": 32, "patch_size": 8},
        projection_dim=16,
    )
    random_model(partial(CLIPModel, config), gain=2.0).save_pretrained(folder)
    tokenizers.clip().save_pretrained(folder)
    return folder
