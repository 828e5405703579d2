"""The text of FLUX.2 klein: three layers of Qwen3, side by side."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import TYPE_CHECKING, Self

import torch

from engine.models.parts import load_part
from engine.tensor_cache import TensorCache
from engine.text import check_length

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase, Qwen3Model

TOKENS = 512  # with the template; no mask goes on, so the padding is part of the picture
LAYERS = (9, 18, 27)  # that a token's embedding is read from (diffusers' Flux2KleinPipeline)
KEPT_BYTES = 256 << 20  # of embeddings: 34 texts of klein 4B in half precision


class Qwen3Text:
    """Embeds a text, and keeps what it embedded lately."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, model: Qwen3Model) -> None:
        """What lies behind the last layer that is read is dropped: a fifth of klein 4B's text."""
        self._tokenizer = tokenizer
        self._tokenizing = threading.Lock()  # padding settings are shared state of a tokenizer
        self._model = model
        # One more than is read: the model's own norm goes over the output of its last layer.
        model.layers = model.layers[: LAYERS[-1] + 1]
        self._kept = TensorCache(KEPT_BYTES)

    @classmethod
    def load(cls, folder: Path, device: torch.device, dtype: torch.dtype) -> Self:
        """Load `tokenizer` and `text_encoder` of a FLUX.2 klein folder."""
        from transformers import AutoTokenizer, Qwen3ForCausalLM

        return cls(
            AutoTokenizer.from_pretrained(folder / "tokenizer", local_files_only=True),
            load_part(Qwen3ForCausalLM, folder / "text_encoder", device, dtype).model,
        )

    def check(self, text: str, model: str, *, param: str) -> None:
        """Raises `InstructionTooLong` for a text that the template makes longer than `TOKENS`."""
        with self._tokenizing:
            count = len(self._tokenizer(self._as_message(text), verbose=False).input_ids)
        check_length(count, TOKENS, model, param=param)

    def embed(self, text: str) -> torch.Tensor:
        """Return (T, D) in the encoder's dtype, D: three layers' widths."""
        kept = self._kept.get(text)
        if kept is None:
            kept = self._embed(text)
            self._kept.put(text, kept)
        return kept

    def _embed(self, text: str) -> torch.Tensor:
        with self._tokenizing:
            tokens = self._tokenizer(
                self._as_message(text),
                padding="max_length",
                max_length=TOKENS,
                truncation=True,
                return_tensors="pt",
            ).to(self._model.device)
        states = self._model(**tokens, output_hidden_states=True, use_cache=False).hidden_states
        return torch.cat([states[layer][0] for layer in LAYERS], dim=-1)

    def _as_message(self, text: str) -> str:
        """The template of a chat in which the model answers without thinking."""
        return self._tokenizer.apply_chat_template(
            [{"role": "user", "content": text}],
            tokenize=False,
            add_generation_prompt=True,
            enable_thinking=False,
        )
