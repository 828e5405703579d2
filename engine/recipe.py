"""Recipes: the command that makes a picture again, as its PNG carries it.

No path, no date and no machine: whoever makes the same edit, by whatever door, gets the same line.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, get_args

from engine.adapter import Adapter
from engine.config import EngineConfig
from engine.edit import Guided
from engine.options import EditOptions, ResolvedOptions
from engine.spec import ModelSpec
from engine.styles import own_instruction
from engine.text import without_controls

COMMAND = ("rayedit", "edit")
# What stands for the files.
SOURCE, OUTPUT, MASK, IMAGE = "SOURCE", "OUTPUT.png", "MASK", "IMAGE"
# What changes a picture beside its options. Device and threads, which change bits, are a machine's.
ENGINE_FLAGS = ("controlnet", "resolution", "dtype", "quantization", "determinism")
# Each image is one, of its own seed; steps are said, and the scales that guidance set; a style is
# written out, unless it has a LoRA; the others change no picture.
_UNSAID = {
    *("seed", "num_images", "quality", "auto_guidance", "style"),
    *("strict_language", "return_mask", "measures"),
}
_FILES = {"-o": OUTPUT, "--mask": MASK, "--image": IMAGE}
_SWITCHES = {
    name
    for name, field in EditOptions.model_fields.items()
    if bool in (field.annotation, *get_args(field.annotation))
}
_DIGEST, _SHOWN = 64, 12  # hex digits of a sha256, which a folder's revision is, and of it shown

Words = tuple[str, ...]


def edit_words(
    instruction: str,
    options: ResolvedOptions,
    spec: ModelSpec,
    *,
    images: int = 0,
    has_mask: bool = False,
) -> Words:
    """Say what was asked for, as words of the command.

    `instruction`: what the model reads; `images`: how many further ones there are.
    """
    lora = spec.styles.get(options.style or "")
    text = instruction if lora is None else own_instruction(instruction, lora.template)
    words = [SOURCE, *_word(text), "-o", OUTPUT]
    words += ["--mask", MASK] if has_mask else []
    words += ["--image", IMAGE] * images
    return (*words, *_flags(_said(options, spec, lora)))


def with_translation(words: Words, used: str, template: str) -> Words:
    """Put what a model read in the place of what was asked for, so that no translator is needed.

    `words`: of `edit_words`; `used`: the whole instruction; `template`: of the LoRA's style.
    """
    own = words.index("-o") > 1  # else the style is the whole instruction
    text = _word(own_instruction(used, template)) if own else []
    return (words[0], *text, *words[words.index("-o") :])


def with_scales(words: Words, guided: Guided) -> Words:
    """Put the scales that were chosen in the place of those that were asked for.

    `words`: of `edit_words`; only an instruction, which is no flag, stands before them.
    """
    said = list(words)
    said[said.index("--guidance-scale") + 1] = str(guided.guidance_scale)
    said[said.index("--image-guidance-scale") + 1] = str(guided.image_guidance_scale)
    return tuple(said)


def engine_words(config: EngineConfig, spec: ModelSpec, revision: str) -> Words:
    """Say what edits, as words of the command; `revision`: of the weights that are loaded.

    A model of a folder has the folder's name.
    """
    parts = revision.split("+")
    pinned = "+".join(part[:_SHOWN] if len(part) == _DIGEST else part for part in parts)
    said = {name: getattr(config, name) for name in ENGINE_FLAGS}
    if config.controlnet is not None and Path(config.controlnet).is_dir():
        said["controlnet"] = Path(config.controlnet).name
    fields = EngineConfig.model_fields
    changed = [(name, value) for name, value in said.items() if value != fields[name].default]
    return ("--model", f"{spec.name}@{pinned}", *_flags(changed))


def command_of(edit: Sequence[str], engine: Sequence[str], seed: int) -> str:
    """Put together what a shell reads: `edit_words`, `engine_words`, the seed of an image."""
    return shlex.join([*COMMAND, *edit, *engine, "--seed", str(seed)])


def read_command(line: str) -> list[str] | None:
    """Read a line as its words; `None` where it is none that `command_of` writes.

    A file may come from a stranger: whatever it says, the words name no file, and joined again they
    are one command and nothing beside it.
    """
    try:
        words = shlex.split(line)
    except ValueError:
        return None
    is_ours = tuple(words[:3]) == (*COMMAND, SOURCE) and "-o" in words[3:5]
    is_ours = is_ours and without_controls(line) == line
    return words if is_ours and _are_known(words[words.index("-o") :]) else None


def _word(instruction: str) -> list[str]:
    """The instruction as one word, none where it is empty. A space keeps one that begins with a
    dash from being a flag: an instruction is stripped when it is read."""
    dashed = f" {instruction}" if instruction.startswith("-") else instruction
    return [dashed] if instruction else []


def _said(
    options: ResolvedOptions, spec: ModelSpec, lora: Adapter | None
) -> Iterator[tuple[str, Any]]:
    """Name and value of each option that counts, but for what every model does anyway."""
    fields = ResolvedOptions.model_fields
    for name, value in options:
        is_neutral = value == fields[name].default and name not in spec.defaults
        is_unsaid = name in _UNSAID and (name != "style" or lora is None)
        if value is not None and not is_neutral and not is_unsaid:
            yield name, without_controls(value) if isinstance(value, str) else value


def _flags(values: Iterable[tuple[str, Any]]) -> Words:
    words: list[str] = []
    for name, value in values:
        dashed = name.replace("_", "-")
        if isinstance(value, bool):
            words.append(f"--{dashed}" if value else f"--no-{dashed}")
        else:
            words += [f"--{dashed}", str(value)]
    return tuple(words)


def _are_known(words: Sequence[str]) -> bool:
    """Whether all of these words are flags that a recipe may hold, and their values."""
    options = {*EditOptions.model_fields, *ENGINE_FLAGS, "model"}
    left = iter(words)
    for flag in left:
        name = flag.removeprefix("--").removeprefix("no-").replace("-", "_")
        if flag in _FILES:
            is_known = next(left, None) == _FILES[flag]
        elif flag.startswith("--") and name in _SWITCHES:
            is_known = True
        else:
            is_known = flag[:2] == "--" and name in options and next(left, None) is not None
        if not is_known:
            return False
    return True
