"""Tokenizers whose pieces are single bytes, so that they need no vocabulary file."""

from __future__ import annotations

from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import CLIPTokenizer, PreTrainedTokenizerFast, Qwen2Tokenizer, T5Tokenizer

BYTES = sorted(pre_tokenizers.ByteLevel.alphabet())

QWEN_SPECIALS = (
    *("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|object_ref_start|>", "<|object_ref_end|>"),
    *("<|box_start|>", "<|box_end|>", "<|quad_start|>", "<|quad_end|>"),
    *("<|vision_start|>", "<|vision_end|>", "<|vision_pad|>", "<|image_pad|>", "<|video_pad|>"),
)
QWEN_CHAT = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n"
    "{% if enable_thinking is false %}<think>\n\n</think>\n\n{% endif %}{% endif %}"
)
MISTRAL_SPECIALS = ("<unk>", "[IMG]", "<s>", "</s>", "<pad>", "[INST]", "[/INST]")
MISTRAL_CHAT = (
    "{% for m in messages %}[INST]{{ m['role'] }}: {% for c in m['content'] %}"
    "{{ c['text'] if c['type'] == 'text' else '[IMG]' }}{% endfor %}[/INST]{% endfor %}"
)


def clip() -> CLIPTokenizer:
    """CLIP's: 77 tokens."""
    pieces = ["<|startoftext|>", "<|endoftext|>", *BYTES, *[piece + "</w>" for piece in BYTES]]
    vocabulary = {piece: i for i, piece in enumerate(pieces)}
    return CLIPTokenizer(vocab=vocabulary, merges=[], model_max_length=77)


def t5() -> T5Tokenizer:
    """T5's: printable ASCII and the mark of a word's beginning; what else comes is unknown."""
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -2.0)]
    pieces += [(chr(code), -3.0) for code in range(33, 127)]
    return T5Tokenizer(vocab=pieces, extra_ids=0, model_max_length=512)


def qwen() -> Qwen2Tokenizer:
    """The tokenizer of Qwen2.5-VL, Qwen3 and Qwen3-VL, with a chat template."""
    vocabulary = {piece: i for i, piece in enumerate(BYTES)}
    tokenizer = Qwen2Tokenizer(
        vocab=vocabulary, merges=[], chat_template=QWEN_CHAT, model_max_length=8192
    )
    tokenizer.add_special_tokens({"additional_special_tokens": list(QWEN_SPECIALS)})
    return tokenizer


def mistral() -> PreTrainedTokenizerFast:
    """Mistral Small 3's, with a chat template that takes Pixtral's lists of contents."""
    pieces = [*MISTRAL_SPECIALS, *BYTES]
    vocabulary = {piece: i for i, piece in enumerate(pieces)}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[], unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    specials = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>"}
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=4096, **specials)
    fast.add_special_tokens({"additional_special_tokens": ["[INST]", "[/INST]", "[IMG]"]})
    fast.chat_template = MISTRAL_CHAT
    return fast
