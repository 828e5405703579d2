"""The text of FLUX.2: three layers of a language model, side by side."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import torch

from engine.models import Placement
from engine.models.padded_tokenizer import PaddedTokenizer
from engine.models.parts import load_text_encoder
from engine.models.text_encoder import TextEncoder
from engine.tensor_cache import TensorCache

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

TOKENS = 512  # with the template; no mask goes on, so the padding is part of the picture
KEPT_BYTES = 256 << 20  # of embeddings: 34 texts of klein 4B, 17 of dev, in half precision

# What dev was trained with, word by word.
SYSTEM = (
    "You are an AI that reasons about image descriptions. You give structured responses focusing "
    "on object relationships, object\nattribution and actions without speculation."
)


class Flux2Text(ABC):
    """Embeds a text, and keeps what it embedded lately."""

    layers: ClassVar[tuple[int, int, int]]  # that a token's embedding is read from

    def __init__(self, tokenizer: PreTrainedTokenizerBase, model: TextEncoder) -> None:
        self._tokenizer = tokenizer  # for its template
        self._padded = PaddedTokenizer(tokenizer, TOKENS, add_special_tokens=False)
        self._model = model
        self._kept = TensorCache(KEPT_BYTES)

    @classmethod
    def load(cls, folder: Path, placement: Placement) -> Self:
        """Load `tokenizer` and `text_encoder` of a FLUX.2 folder."""
        from transformers import AutoTokenizer

        tokenizer = AutoTokenizer.from_pretrained(folder / "tokenizer", local_files_only=True)
        return cls(tokenizer, cls._load_model(folder / "text_encoder", placement))

    @classmethod
    @abstractmethod
    def _load_model(cls, folder: Path, placement: Placement) -> TextEncoder: ...

    @classmethod
    def _cut(cls, model: Any) -> Any:
        """Drop what lies behind the last layer that is read, a fifth of a model of text alone."""
        # One more than is read: the model's own norm goes over the output of its last layer.
        model.layers = model.layers[: cls.layers[-1] + 1]
        return model

    @abstractmethod
    def _as_message(self, text: str) -> str:
        """The text in the template of a chat."""

    def check(self, text: str, model: str, *, param: str) -> None:
        """Raises `InstructionTooLong` for a text that the template makes longer than `TOKENS`."""
        self._padded.check(self._as_message(text), model, param=param)

    def embed(self, text: str) -> torch.Tensor:
        """Return (T, D) in the encoder's dtype, D: three layers' widths."""
        return self._kept.made_once(text, lambda: self._embed(text))

    def _embed(self, text: str) -> torch.Tensor:
        ids, attended = self._padded.ids_and_mask(self._as_message(text))
        states = self._model(
            input_ids=ids,
            attention_mask=attended,
            output_hidden_states=True,
            use_cache=False,
        ).hidden_states
        return torch.cat([states[layer][0] for layer in self.layers], dim=-1)


class Qwen3Text(Flux2Text):
    """Reads for klein (diffusers' Flux2KleinPipeline): an answer without thinking."""

    layers = (9, 18, 27)

    @classmethod
    def _load_model(cls, folder: Path, placement: Placement) -> TextEncoder:
        from transformers import Qwen3ForCausalLM

        return load_text_encoder(
            Qwen3ForCausalLM, folder, placement, reader=lambda whole: cls._cut(whole.model)
        )

    def _as_message(self, text: str) -> str:
        return self._tokenizer.apply_chat_template(
            [{"role": "user", "content": text}],
            tokenize=False,
            add_generation_prompt=True,
            enable_thinking=False,
        )


class MistralText(Flux2Text):
    """Reads for dev (diffusers' Flux2Pipeline): Mistral Small 3 behind a system message."""

    layers = (10, 20, 30)

    @classmethod
    def _load_model(cls, folder: Path, placement: Placement) -> TextEncoder:
        from transformers import Mistral3ForConditionalGeneration

        return load_text_encoder(
            Mistral3ForConditionalGeneration,
            folder,
            placement,
            reader=lambda whole: cls._cut(whole.model.language_model),
        )

    def _as_message(self, text: str) -> str:
        parts = {"system": SYSTEM, "user": text.replace("[IMG]", "")}  # which stands for a picture
        return self._tokenizer.apply_chat_template(
            [{"role": r, "content": [{"type": "text", "text": t}]} for r, t in parts.items()],
            tokenize=False,
            add_generation_prompt=False,
        )
