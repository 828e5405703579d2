"""Qwen's processors of text with images, without the video half that needs torchvision."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from transformers import Qwen2Tokenizer, Qwen2VLProcessor, Qwen3VLProcessor
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil


class VisionProcessor:
    """transformers' own processor but for its constructor, which asks for a video processor: that
    cannot be imported where torchvision is absent. `name`: the class in a folder's index."""

    name = ""
    chat_template = None

    def __init__(self, image_processor: Any, tokenizer: Qwen2Tokenizer) -> None:
        self.image_processor, self.tokenizer = image_processor, tokenizer
        self.image_token, self.video_token = "<|image_pad|>", "<|video_pad|>"
        self.image_token_id = tokenizer.convert_tokens_to_ids(self.image_token)
        self.video_token_id = tokenizer.convert_tokens_to_ids(self.video_token)

    @classmethod
    def of_patches(
        cls, patch_px: int, tokenizer: Qwen2Tokenizer, max_pixels: int = 4096**2
    ) -> VisionProcessor:
        """One that cuts images into patches of this side, as they come up to `max_pixels`: nothing
        is resized but to whole patches. Four patches are a token."""
        images = Qwen2VLImageProcessorPil(
            patch_size=patch_px,
            temporal_patch_size=2,
            merge_size=2,
            min_pixels=(2 * patch_px) ** 2,
            max_pixels=max_pixels,
        )
        return cls(images, tokenizer)

    @classmethod
    def of_folder(cls, folder: Path) -> VisionProcessor:
        """The one that `save_pretrained` wrote."""
        images = Qwen2VLImageProcessorPil.from_pretrained(folder)
        return cls(images, Qwen2Tokenizer.from_pretrained(folder))

    def save_pretrained(self, folder: Path, **_: Any) -> None:
        """As the hub's folders have it: the tokenizer's files and `preprocessor_config.json`."""
        self.tokenizer.save_pretrained(folder)
        self.image_processor.save_pretrained(folder)


class QwenVLProcessor(VisionProcessor, Qwen2VLProcessor):
    """Qwen2.5-VL's."""

    name = "Qwen2VLProcessor"


class Qwen3Processor(VisionProcessor, Qwen3VLProcessor):
    """Qwen3-VL's."""

    name = "Qwen3VLProcessor"
