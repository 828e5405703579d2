"""Edits whose style or LoRA cannot be honoured, whichever door they come through."""

from __future__ import annotations

from typing import Any, NamedTuple

SHOP = """\
line: {template: turn it into a pencil sketch, seed: 42}
soft: {template: "{instruction}, in soft light"}
kontext: {model: flux-kontext}
cfg: {options: {true_cfg_scale: 2.0}}
changed: {model: pocket, lora: changed.safetensors}
gone: {model: pocket, lora: gone.safetensors}
warm: {model: pocket, lora: warm.safetensors}
"""


class Bad(NamedTuple):
    """A kind of edit that is refused, and how."""

    fields: dict[str, Any]
    code: str
    param: str
    says: str


# By the fields of an edit beside its image: what a row says, and what a client sends.
BAD_EDITS = {
    "unknown": Bad(
        {"style": "lin"}, "option_unknown", "style", 'unknown style "lin". Did you mean "line"?'
    ),
    "a file": Bad(
        {"style": "warm.safetensors"}, "option_unknown", "style", '"warm.safetensors". Known: '
    ),
    "no text": Bad({"style": 5}, "option_invalid", "style", "style: must be"),
    "without end": Bad(
        {"style": "x" * 65}, "option_invalid", "style", "style: String should have at most 64"
    ),
    "of another model": Bad(
        {"style": "kontext", "instruction": "add fog"},
        "option_invalid",
        "style",
        "style kontext is of model flux-kontext, and this is pocket, which has line, soft, ",
    ),
    "an option that the model lacks": Bad(
        {"style": "cfg", "instruction": "add fog"},
        "option_invalid",
        "style",
        "style cfg: model pocket has no true_cfg_scale; it takes guidance_scale, ",
    ),
    "an instruction beside a whole one": Bad(
        {"style": "line", "instruction": "add fog"},
        "option_invalid",
        "style",
        'style line is the whole instruction, "turn it into a pencil sketch": leave yours out',
    ),
    "no instruction": Bad(
        {"style": "soft"}, "instruction_empty", "instruction", "style soft needs an instruction"
    ),
    "a scale without a style": Bad(
        {"lora_scale": 0.5, "instruction": "add fog"},
        "option_invalid",
        "lora_scale",
        "lora_scale 0.5 has no effect without a style that has a LoRA; model pocket has changed, ",
    ),
    "a scale without a LoRA": Bad(
        {"style": "line", "lora_scale": 0.5},
        "option_invalid",
        "lora_scale",
        "in style line, which has no",
    ),
    "a scale beyond": Bad(
        {"style": "warm", "lora_scale": 2.1, "instruction": "add fog"},
        "option_invalid",
        "lora_scale",
        "lora_scale: must be less than or equal to 2; got",
    ),
    "a scale that is no number": Bad(
        {"style": "warm", "lora_scale": "strong", "instruction": "add fog"},
        "option_invalid",
        "lora_scale",
        "lora_scale: must be a valid number",
    ),
}
