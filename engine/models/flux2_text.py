"""The text of FLUX.2: three layers of a language model, side by side."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import torch

from engine.models import Placement
from engine.models.parts import load_text_encoder
from engine.models.text_encoder import TextEncoder
from engine.tensor_cache import TensorCache
from engine.text import check_length

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
        self._tokenizer = tokenizer
        self._tokenizing = threading.Lock()  # padding settings are shared state of a tokenizer
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
        with self._tokenizing:
            message = self._as_message(text)
            ids = self._tokenizer(message, add_special_tokens=False, verbose=False).input_ids
        check_length(len(ids), TOKENS, model, param=param)

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
                add_special_tokens=False,
                padding="max_length",
                max_length=TOKENS,
                truncation=True,
                return_tensors="pt",
            )
        states = self._model(
            input_ids=tokens["input_ids"],
            attention_mask=tokens["attention_mask"],
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
