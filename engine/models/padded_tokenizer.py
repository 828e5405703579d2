"""A tokenizer that makes every text as long as the model reads."""

from __future__ import annotations

import threading
from functools import partial
from typing import TYPE_CHECKING

from engine.text import check_length

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedTokenizerBase


class PaddedTokenizer:
    """Pads and cuts to `length` tokens. For several threads."""

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        length: int | None = None,
        *,
        add_special_tokens: bool = True,
    ) -> None:
        """`length`: the tokenizer's own, if `None`; `add_special_tokens`: a text has none yet."""
        self.length: int = length or tokenizer.model_max_length
        self._tokenizer = partial(tokenizer, add_special_tokens=add_special_tokens, verbose=False)
        self._tokenizing = threading.Lock()  # padding settings are shared state of a tokenizer

    def check(self, text: str, model: str, *, param: str) -> None:
        """Raises `InstructionTooLong` for a text that would be cut; `param` names it."""
        with self._tokenizing:
            count = len(self._tokenizer(text).input_ids)
        check_length(count, self.length, model, param=param)

    def ids(self, text: str) -> torch.Tensor:
        """Return the tokens of `text`, (1, `length`) int64."""
        return self.ids_and_mask(text)[0]

    def ids_and_mask(self, text: str) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the tokens of `text` and, 0 where they only pad, its mask; (1, `length`) int64."""
        with self._tokenizing:
            tokens = self._tokenizer(
                text,
                padding="max_length",
                max_length=self.length,
                truncation=True,
                return_tensors="pt",
            )
        return tokens.input_ids, tokens.attention_mask
