"""Text encoders of a few thousand weights, in the shapes of the real ones."""

from __future__ import annotations

from functools import partial
from typing import Any

from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    Mistral3Config,
    Mistral3ForConditionalGeneration,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2Tokenizer,
    Qwen3Config,
    Qwen3ForCausalLM,
    Qwen3VLConfig,
    Qwen3VLForConditionalGeneration,
    T5Config,
    T5EncoderModel,
)

from tests.tiny.weights import GAIN, random_model

WIDTH = 32  # of CLIP and T5; SDXL puts two CLIPs beside each other
VISION_WIDTH = 16  # of the language models
VOCABULARY = 512


def clip(*, projection: bool = False, seed: int = 0) -> Any:
    """CLIP's; with the projection that SDXL's second encoder has."""
    config = CLIPTextConfig(
        hidden_size=WIDTH,
        projection_dim=WIDTH,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        vocab_size=2 + 2 * 256,
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=1,
    )
    kind = CLIPTextModelWithProjection if projection else CLIPTextModel
    return random_model(partial(kind, config), seed=seed)


def t5() -> Any:
    """T5's encoder."""
    config = T5Config(
        vocab_size=128,
        d_model=WIDTH,
        d_kv=8,
        d_ff=64,
        num_layers=2,
        num_heads=4,
        feed_forward_proj="gated-gelu",
        pad_token_id=0,
        eos_token_id=1,
        decoder_start_token_id=0,
    )
    return random_model(partial(T5EncoderModel, config))


def qwen3() -> Any:
    """Qwen3: 28 layers, for FLUX.2 klein reads the outputs of 9, 18 and 27."""
    config = Qwen3Config(
        vocab_size=VOCABULARY,
        hidden_size=VISION_WIDTH,
        intermediate_size=32,
        num_hidden_layers=28,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=8,
        max_position_embeddings=1024,
    )
    return random_model(partial(Qwen3ForCausalLM, config))


def mistral3() -> Any:
    """Mistral Small 3.1: 31 layers, for FLUX.2 reads the outputs of 10, 20 and 30."""
    text = {
        "model_type": "mistral",
        "vocab_size": VOCABULARY,
        "hidden_size": VISION_WIDTH,
        "intermediate_size": 32,
        "num_hidden_layers": 31,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "head_dim": 8,
        "max_position_embeddings": 1024,
        "sliding_window": None,
    }
    vision = {
        "model_type": "pixtral",
        "hidden_size": VISION_WIDTH,
        "intermediate_size": 32,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "image_size": 32,
        "patch_size": 8,
    }
    config = Mistral3Config(
        text_config=text, vision_config=vision, image_token_index=1, vision_feature_layer=-1
    )
    return random_model(partial(Mistral3ForConditionalGeneration, config))


def qwen25_vl(tokenizer: Qwen2Tokenizer) -> Any:
    """Qwen2.5-VL, with positions of three axes (`mrope_section`)."""
    text = {
        **_language_layers(tokenizer),
        "rope_parameters": {
            "rope_type": "default",
            "rope_theta": 1e6,
            "mrope_section": [1, 1, 2],
        },
    }
    vision = {
        "depth": 2,
        "hidden_size": VISION_WIDTH,
        "intermediate_size": 32,
        "num_heads": 2,
        "out_hidden_size": VISION_WIDTH,
        "fullatt_block_indexes": [1],
        "window_size": 112,
        "patch_size": 14,
    }
    config = Qwen2_5_VLConfig(text_config=text, vision_config=vision, **_vision_ids(tokenizer))
    return random_model(partial(Qwen2_5_VLForConditionalGeneration, config), gain=GAIN)


def qwen3_vl(tokenizer: Qwen2Tokenizer) -> Any:
    """Qwen3-VL, with interleaved positions and an early vision layer's features (deepstack)."""
    text = {
        **_language_layers(tokenizer),
        "rope_parameters": {
            "rope_type": "default",
            "rope_theta": 5e6,
            "mrope_section": [2, 1, 1],
            "mrope_interleaved": True,
        },
    }
    vision = {
        "depth": 2,
        "hidden_size": VISION_WIDTH,
        "intermediate_size": 32,
        "num_heads": 2,
        "out_hidden_size": VISION_WIDTH,
        "deepstack_visual_indexes": [0],
        "num_position_embeddings": 64,
        "patch_size": 16,
    }
    config = Qwen3VLConfig(text_config=text, vision_config=vision, **_vision_ids(tokenizer))
    return random_model(partial(Qwen3VLForConditionalGeneration, config))


def _language_layers(tokenizer: Qwen2Tokenizer) -> dict[str, Any]:
    return {
        "bos_token_id": tokenizer.convert_tokens_to_ids("<|endoftext|>"),
        "eos_token_id": tokenizer.convert_tokens_to_ids("<|im_end|>"),
        "vocab_size": VOCABULARY,
        "hidden_size": VISION_WIDTH,
        "intermediate_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "head_dim": 8,
        "max_position_embeddings": 8192,
    }


def _vision_ids(tokenizer: Qwen2Tokenizer) -> dict[str, int]:
    """The ids that a vision model's configuration names."""
    names = {
        "vision_start_token_id": "<|vision_start|>",
        "vision_end_token_id": "<|vision_end|>",
        "image_token_id": "<|image_pad|>",
        "video_token_id": "<|video_pad|>",
    }
    return {name: tokenizer.convert_tokens_to_ids(piece) for name, piece in names.items()}
