"""The columns of a manifest: their names, and other names that are understood."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Literal, get_args

from engine.errors import ManifestInvalid
from engine.options import EditOptions

ALIASES = {
    "edit_prompt": "instruction",  # InstructPix2Pix, UltraEdit
    "prompt": "instruction",  # ImgEdit
    "edit_instruction": "instruction",  # AnyEdit
    "edited_prompt_list": "instruction",  # OmniEdit: the last one is the short one
    "input_image": "image",  # HQ-Edit, GEdit-Bench
    "input_images": "image",  # ImgEdit
    "source_image": "image",  # UltraEdit, EditReward
    "source_img": "image",  # MagicBrush
    "src_img": "image",  # OmniEdit
    "original_image": "image",  # InstructPix2Pix
    "image_file": "image",  # AnyEdit
    "local_input_image": "image",  # Pico-Banana-400K
    "text_guidance": "guidance_scale",
}
# Names that mean something only beside another column of a data set: (name, that) -> meaning.
BESIDE = {
    ("edit", "inverse_edit"): "instruction",  # HQ-Edit
    ("edit", "edited_file"): "instruction",  # AnyEdit, as JSON
    ("text", "summarized_text"): "instruction",  # Pico-Banana-400K
}
# Columns of data sets that only look like options -> a column beside which they are none.
NO_OPTIONS = {
    "width": "omni_edit_id",  # OmniEdit: of the source
    "height": "omni_edit_id",
    "instruction_language": "instruction_language",  # GEdit-Bench: en or cn, wherever it stands
}
OPTIONS = tuple(EditOptions.model_fields)
PictureColumn = Literal["image", "mask"]
PICTURES: tuple[PictureColumn, ...] = get_args(PictureColumn)
COLUMNS = ("id", "chain_id", "turn", *PICTURES, "instruction", *OPTIONS)
NAMED = ("id", "chain_id", "turn", "image", "instruction")  # by a user, whatever they are called
REQUIRED = ("image", "instruction")
WITH_A_STYLE = ("image",)  # which may be the whole instruction
# What other programs call our options: read here it would be ignored, so it is refused by name.
OTHERS_OPTIONS = {
    **dict.fromkeys(
        ("steps", "num_steps", "inference_steps", "sampler_steps"), "num_inference_steps"
    ),
    **dict.fromkeys(("cfg", "cfg_scale", "guidance", "text_cfg_scale"), "guidance_scale"),
    **dict.fromkeys(("image_cfg_scale", "img_cfg_scale", "image_guidance"), "image_guidance_scale"),
    **dict.fromkeys(("denoise", "denoising_strength"), "strength"),
    **dict.fromkeys(
        ("controlnet_scale", "controlnet_strength", "controlnet_weight"),
        "controlnet_conditioning_scale",
    ),
    "guidance_start": "control_guidance_start",
    "guidance_end": "control_guidance_end",
    **dict.fromkeys(("adapter", "lora", "lora_name", "lora_path", "preset"), "style"),
    **dict.fromkeys(("adapter_scale", "lora_strength", "lora_weight"), "lora_scale"),
    **dict.fromkeys(("width", "height"), "size"),
    **dict.fromkeys(("n", "num_images_per_prompt", "num_outputs"), "num_images"),
    **dict.fromkeys(("sampler", "sampler_name"), "scheduler"),
    **dict.fromkeys(("random_seed", "noise_seed"), "seed"),
    "negative": "negative_prompt",
}

Chosen = Sequence[tuple[str, str]]  # (column of a file, what a user says that it means)


def canonical_names(columns: Iterable[str], file: str, chosen: Chosen = ()) -> dict[str, str]:
    """Column of the file -> its canonical name, for those that rayedit knows.

    `file`: for a message, empty where its reader says where it is. What is chosen goes before what
    a name means. Raises `ManifestInvalid` for two columns of one meaning, and for one that looks
    like an option or a mask.
    """
    columns, at = list(columns), f"{file}: " if file else ""
    names = {column: name for column, name in chosen if column in columns}
    settled = {name for _, name in chosen}
    for column in columns:
        if column in names:
            continue
        name = meaning_of(column, columns)
        if name in COLUMNS:
            if name in settled:
                continue
            if name in names.values():
                first = next(known for known, meaning in names.items() if meaning == name)
                raise ManifestInvalid(f"{at}two columns for {name}: {first} and {column}")
            names[column] = name
        elif near := _near(column, columns):
            raise ManifestInvalid(
                f'{at}column "{column}" is not an option. Did you mean "{near}"? '
                "Rename it, so that it is not ignored",
                param=column,
            )
    if "chain_id" not in names.values() and "turn" not in settled:  # of nothing: it is carried
        names = {column: name for column, name in names.items() if name != "turn"}
    return names


def meaning_of(column: str, columns: Iterable[str] = ()) -> str:
    """Find what a column means beside others of its file; its own name where that is nothing."""
    for (name, neighbour), meaning in BESIDE.items():
        if column == name and neighbour in columns:
            return meaning
    return ALIASES.get(column, column)


def _near(column: str, columns: Iterable[str]) -> str | None:
    if column in NO_OPTIONS and NO_OPTIONS[column] in columns:
        return None
    return _nearest(column)


@lru_cache(10_000)  # a JSONL may have a key more on each line
def _nearest(column: str) -> str | None:
    """Find the option, or "mask", that a name means in other spelling or in other programs."""
    spelled = re.sub(r"[\W_]+", "_", column.casefold()).strip("_")
    if spelled in (*OPTIONS, "mask"):
        return spelled
    if spelled in OTHERS_OPTIONS:
        return OTHERS_OPTIONS[spelled]
    return next(iter(difflib.get_close_matches(column, (*OPTIONS, "mask"), n=1, cutoff=0.8)), None)


def column_flag(name: str) -> str:
    """Name the flag that says which column is meant."""
    return f"--{name.replace('_', '-')}-column"


def check_required(
    names: dict[str, str],
    columns: Iterable[str],
    file: str,
    chosen: Chosen = (),
    required: Sequence[str] = REQUIRED,
) -> None:
    """Raises `ManifestInvalid` where a column is missing that every edit needs, or was chosen."""
    columns = list(columns)
    has = ", ".join(columns) or "none"
    for column, name in chosen:
        if column not in columns:
            raise ManifestInvalid(
                f'{file} has no column "{column}" ({column_flag(name)}); it has {has}', param=name
            )
    for name in WITH_A_STYLE if "style" in names.values() else required:
        if name not in names.values():
            raise ManifestInvalid(
                f'{file} has no column "{name}"; it has {has}. Name the one that is meant: '
                f"{column_flag(name)} NAME",
                param=name,
            )
