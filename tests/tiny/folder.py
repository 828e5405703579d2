"""Parts into a diffusers folder: a subfolder each, and `model_index.json`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import diffusers

# What the indices of the hub's folders call classes that transformers 5 has under other names.
HUB_NAMES = {"T5Tokenizer": "T5TokenizerFast", "TokenizersBackend": "PixtralProcessor"}


def save(folder: Path, pipeline: str, parts: Mapping[str, Any], **settings: Any) -> None:
    """Write `parts` as `pipeline` (a class of diffusers) would; `settings` go into the index.

    A part that is `None` is named there as one that the pipeline does without.
    """
    index: dict[str, Any] = {"_class_name": pipeline, "_diffusers_version": diffusers.__version__}
    for name, part in parts.items():
        index[name] = [None, None] if part is None else _entry(part)
        if part is not None:
            part.save_pretrained(folder / name)
    text = json.dumps({**index, **settings}, indent=2)
    (folder / "model_index.json").write_text(text + "\n")


def _entry(part: Any) -> list[str]:
    """[library, class] of a part."""
    kind = type(part)
    name = getattr(kind, "name", None) or HUB_NAMES.get(kind.__name__, kind.__name__)
    library = "diffusers" if kind.__module__.startswith("diffusers.") else "transformers"
    return [library, name]
