"""The text of Qwen-Image-Edit and DreamLite: Qwen-VL reads the instruction with the sources."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import torch
from PIL import Image
from torch.nn.functional import pad

from engine.models import Inputs, Placement
from engine.models.parts import load_text_encoder
from engine.models.text_encoder import TextEncoder
from engine.tensor_cache import TensorCache
from engine.text import check_length

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase, Qwen2VLImageProcessorPil

TOKENS = 1024  # of an instruction (diffusers' `tokenizer_max_length`)
KEPT_BYTES = 256 << 20  # of embeddings: 25 texts with a picture of a megapixel, in half precision

# What both models were trained with, word by word.
HEAD = (
    "<|im_start|>system\nDescribe the key features of the input image (color, shape, size, "
    "texture, objects, background), then explain how the user's text instruction should alter or "
    "modify the image. Generate a new image that meets the user's requirements while maintaining "
    "consistency with the original input where appropriate.<|im_end|>\n<|im_start|>user\n"
)
TAIL = "<|im_end|>\n<|im_start|>assistant\n"
HEAD_TOKENS = 64  # of `HEAD` in Qwen's tokenizers: they are not handed on

PLUS_AREA_PX = 384 * 384  # that each of several pictures is shown at (`CONDITION_IMAGE_SIZE`)
PLUS_MULTIPLE = 32  # of its sides (`calculate_dimensions`)

Size = tuple[int, int]  # (width, height) in px


class QwenText:
    """Embeds a text with the pictures it speaks of, and keeps what it embedded lately."""

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        processor: Qwen2VLImageProcessorPil,
        model: TextEncoder,
        *,
        numbered: bool = False,
        shown_at: Callable[[Size], Size] | None = None,
    ) -> None:
        """`numbered`: the chat counts its pictures; `shown_at`: from a picture's own size, the one
        that it is resized to; `None`: it is shown as it is."""
        self._tokenizer = tokenizer
        self._tokenizing = threading.Lock()  # how it treats special tokens is shared state
        self._processor = processor
        self._model = model
        self._numbered = numbered
        self._shown_at = shown_at
        self._kept = TensorCache(KEPT_BYTES)

    @classmethod
    def load(cls, kind: Any, folder: Path, placement: Placement, **settings: Any) -> Self:
        """Load `tokenizer`, `processor` and `text_encoder`, of class `kind`, of a model's folder.

        `settings`: of the constructor. Pillow resizes its pictures: torchvision's processor makes
        other pixels, and need not be there.
        """
        from transformers import AutoTokenizer, Qwen2VLImageProcessorPil

        return cls(
            AutoTokenizer.from_pretrained(folder / "tokenizer", local_files_only=True),
            Qwen2VLImageProcessorPil.from_pretrained(folder / "processor", local_files_only=True),
            load_text_encoder(
                kind, folder / "text_encoder", placement, reader=lambda whole: whole.model
            ),
            **settings,
        )

    def check(self, text: str, model: str, *, param: str) -> None:
        """Raises `InstructionTooLong` for a text of more than `TOKENS`."""
        check_length(len(self._ids(text, plain=True)), TOKENS, model, param=param)

    def embed(
        self, text: str, pictures: Sequence[np.ndarray], digests: Sequence[str]
    ) -> torch.Tensor:
        """Return (T, D) in the encoder's dtype, T: tokens of pictures (H, W, 3) uint8 and text.

        `digests`: of the pictures' pixels.
        """
        return self._kept.made_once((text, *digests), lambda: self._embed(text, pictures))

    def _embed(self, text: str, pictures: Sequence[np.ndarray]) -> torch.Tensor:
        images = [Image.fromarray(picture) for picture in pictures]
        if self._shown_at is not None:
            sizes = [self._shown_at(image.size) for image in images]
            images = [
                image.resize(size, Image.Resampling.LANCZOS)
                for image, size in zip(images, sizes, strict=True)
            ]
        seen = self._processor(images=images, return_tensors="pt")
        ids = self._message(text, seen["image_grid_thw"])
        # Without `mm_token_type_ids`, transformers 5 silently numbers the tokens of a picture in a
        # line, where the model was trained with their rows and columns.
        states = self._model(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            mm_token_type_ids=(ids == self._model.config.image_token_id).int(),
            use_cache=False,
            **seen,
        ).last_hidden_state
        return states[0, HEAD_TOKENS:]

    def _message(self, text: str, grids: torch.Tensor) -> torch.Tensor:
        """(1, T) ids of the chat. `grids` (K, 3): frames, rows and columns of patches of each
        picture, of which `merge_size` squared are a token."""
        counts = grids.prod(dim=1) // self._processor.merge_size**2
        shown = "".join(
            (f"Picture {k}: " if self._numbered else "")
            + "<|vision_start|>"
            + "<|image_pad|>" * count
            + "<|vision_end|>"
            for k, count in enumerate(counts.tolist(), start=1)
        )
        # The text stands between special tokens, so it can be read alone: as text, whatever it is.
        ids = [*self._ids(HEAD + shown), *self._ids(text, plain=True), *self._ids(TAIL)]
        return torch.tensor([ids])

    def _ids(self, text: str, *, plain: bool = False) -> list[int]:
        """`plain`: the names of special tokens are words like others."""
        with self._tokenizing:
            return self._tokenizer(text, split_special_tokens=plain, verbose=False).input_ids


def shown_size(size: Size) -> Size:
    """Choose the (width, height) px that one of several pictures is shown at."""
    aspect = size[0] / size[1]
    width = math.sqrt(PLUS_AREA_PX * aspect)
    sides = (round(side / PLUS_MULTIPLE) * PLUS_MULTIPLE for side in (width, width / aspect))
    width_px, height_px = (max(side, PLUS_MULTIPLE) for side in sides)
    return width_px, height_px


def as_rows(embedded: Sequence[torch.Tensor]) -> list[Inputs]:
    """Pad texts (T, D) to the longest: `text` (L, D) and `mask` (L,), false where it only pads."""
    length = max(len(text) for text in embedded)
    return [
        {
            "text": pad(text, (0, 0, 0, length - len(text))),
            "mask": torch.arange(length, device=text.device) < len(text),
        }
        for text in embedded
    ]
