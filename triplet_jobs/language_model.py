"""A language model of a folder, as transformers saves one: many captions in, answers out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    GenerationConfig,
    LogitsProcessor,
    LogitsProcessorList,
)
from transformers.utils import logging

from engine.device import choose_device
from engine.errors import ModelError, RewritingFailed
from triplet_jobs.gguf import find_gguf
from triplet_jobs.prompt import SAMPLING, chat_of, text_of
from triplet_jobs.rewriting import END


class LanguageModel:
    """Answers the prompts of captions. For one thread."""

    def __init__(self, folder: Path, device: str = "auto") -> None:
        """Load the folder's safetensors: as they are on a GPU, in float32 on a CPU; or a GGUF file
        or its folder, whatever it is packed as in bfloat16 on a GPU.

        `device`: see `choose_device`. Raises `ModelError`.
        """
        self._name = folder.name
        self._model, self._tokenizer = _load(folder, choose_device(device))
        own = self._model.config.get_text_config()
        self._most: int | None = getattr(own, "max_position_embeddings", None)
        ends = self._model.generation_config.eos_token_id
        if self._tokenizer.pad_token_id is None:
            self._tokenizer.pad_token = self._tokenizer.eos_token
        # what the folder says of sampling goes: all models are asked alike
        self._model.generation_config = GenerationConfig(
            do_sample=False,  # `Draw` does
            max_new_tokens=SAMPLING["max_tokens"],
            stop_strings=[END],
            eos_token_id=self._tokenizer.eos_token_id if ends is None else ends,
            pad_token_id=self._tokenizer.pad_token_id,
        )

    def check(self, caption: str) -> None:
        """Raises `RewritingFailed` for a caption that leaves no room for an answer."""
        count = len(self._tokens([caption]).input_ids[0]) + int(SAMPLING["max_tokens"])
        if self._most is not None and count > self._most:
            raise RewritingFailed(
                f"prompt and answer take {count} tokens, and {self._name} has {self._most}: "
                "shorten the caption, or take a model with a longer context"
            )

    def answer(self, captions: Sequence[str], seeds: Sequence[int]) -> list[str]:
        """Answer each caption, sampled with its seed; other captions beside it change nothing but
        the last bits of what is sampled from."""
        tokens = self._tokens(captions).to(self._model.device)
        begin = tokens.input_ids.shape[1]
        draw = Draw(seeds, begin, self._model.device)
        with torch.inference_mode():
            written = self._model.generate(
                tokens.input_ids,
                attention_mask=tokens.attention_mask,
                logits_processor=LogitsProcessorList([draw]),
                tokenizer=self._tokenizer,
            )
        return self._tokenizer.batch_decode(written[:, begin:], skip_special_tokens=True)

    def _tokens(self, captions: Sequence[str]) -> Any:
        """The prompts, padded on the left."""
        if self._tokenizer.chat_template is None:
            return self._tokenizer(list(map(text_of, captions)), padding=True, return_tensors="pt")
        prompts = self._tokenizer.apply_chat_template(
            list(map(chat_of, captions)),
            tokenize=False,
            add_generation_prompt=True,
            enable_thinking=False,
        )
        return self._tokenizer(prompts, padding=True, add_special_tokens=False, return_tensors="pt")


class Draw(LogitsProcessor):
    """Samples each row with a generator of its own, as a server samples each request.

    The largest of logits - log(exponential noise) is a draw from their softmax.
    """

    def __init__(self, seeds: Sequence[int], begin: int, device: torch.device) -> None:
        """`begin`: tokens of the prompt."""
        self._dice = [torch.Generator(device).manual_seed(seed) for seed in seeds]
        self._begin = begin

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """`input_ids` (N, T), `scores` (N, V) float32 -> (N, V)."""
        written = input_ids[:, self._begin :]
        once = torch.ones_like(written, dtype=scores.dtype)
        counts = torch.zeros_like(scores).scatter_add_(1, written, once)
        wanted = (scores - SAMPLING["frequency_penalty"] * counts) / SAMPLING["temperature"]
        noise = [
            torch.empty_like(row).exponential_(generator=dice)
            for row, dice in zip(scores, self._dice, strict=True)
        ]
        return wanted - torch.stack(noise).log()


def _load(folder: Path, device: torch.device) -> tuple[Any, Any]:
    """The model and its tokenizer; raises `ModelError` where either cannot be used."""
    logging.disable_progress_bar()
    own: dict[str, Any] = {"local_files_only": True}
    dtype: Any = "auto"
    file = find_gguf(folder)
    if file is not None:
        folder, dtype = file.parent, torch.bfloat16
        own["gguf_file"] = file.name
    if device.type == "cpu":
        dtype = torch.float32
    try:
        model, report = AutoModelForCausalLM.from_pretrained(
            folder, use_safetensors=file is None, dtype=dtype, output_loading_info=True, **own
        )
        tokenizer = AutoTokenizer.from_pretrained(folder, padding_side="left", **own)
        if tokenizer.chat_template is not None:
            tokenizer.apply_chat_template(chat_of("a cat"), tokenize=False)
    except Exception as error:  # a template raises what it likes
        raise ModelError(f"{folder} cannot be loaded as a language model: {error}") from error
    if report["missing_keys"]:
        missing = ", ".join(sorted(report["missing_keys"])[:3])
        raise ModelError(f"{folder} lacks weights of a language model: {missing}, ...")
    if not len(tokenizer):
        raise ModelError(f"{folder} lacks the files of a tokenizer")
    return model.to(device).eval().requires_grad_(False), tokenizer
