"""Adapters: the LoRA files that an operator names, as far as they are known without torch."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from engine.errors import AdapterUnusable
from engine.tensor_file import file_damage, start_of

# What diffusers and peft call the one file of a folder that they save an adapter to.
FILES = ("pytorch_lora_weights.safetensors", "adapter_model.safetensors")
_PICKLES = frozenset({".bin", ".ckpt", ".pickle", ".pkl", ".pt", ".pth"})
_PICKLE_STARTS = (b"PK\x03\x04", b"\x80")  # of torch.save, and of pickle since protocol 2
_PICKLE = "is a pickle, which can run code: save it as safetensors"
# The names of the two halves of a low-rank weight: kohya's, peft's, diffusers' before peft.
_HALVES = (("lora_down.", "lora_up."), ("lora_A.", "lora_B."), ("lora.down.", "lora.up."))
_OF_TEXT = re.compile(r"lora_te\d?_|text_encoder(_\d)?\.|text_model\.")
_OTHER_KINDS = {
    "dora_scale": "a DoRA",
    "lora_magnitude_vector": "a DoRA",
    "hada_": "a LoHa",
    "lokr_": "a LoKr",
    "oft_": "an OFT",
    "lora_mid": "a LoCon in Tucker's form",
}


@dataclass(frozen=True, slots=True)
class Adapter:
    """A LoRA of one file. Hashable: edits of one adapter may share model calls."""

    name: str  # of the style that it is of
    path: str  # of a safetensors file
    sha256: str  # of its bytes, hex: it is in the fingerprint of an edit
    template: str = "{instruction}"  # of that style: what it makes of an instruction

    def unusable(self, reason: str) -> AdapterUnusable:
        """Make the error that says why this file cannot be used; a client may read it."""
        return _unusable(self.name, Path(self.path).name, reason)


def find_adapter(name: str, path: str | Path) -> Adapter:
    """Find the LoRA of style `name`: a safetensors file, or a folder that diffusers or peft saved.

    Its header is read, and its bytes are digested. Raises `AdapterUnusable` for what no model could
    use; whether it is of the right base shows when it is loaded.
    """
    file = _file_of(name, Path(path))
    _check_shapes(name, file, _read_shapes(name, file))
    return Adapter(name, str(file), sha256_of(file))


def sha256_of(file: Path) -> str:
    """Digest a file, as hex."""
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def halves_of(names: Mapping[str, object]) -> Iterator[tuple[str, str]]:
    """Pair the names of the two halves of each low-rank weight, (down, up), where either is."""
    for name in names:
        for down, up in _HALVES:
            if down in name:
                yield name, name.replace(down, up)
            elif up in name and name.replace(up, down) not in names:
                yield name.replace(up, down), name


def _file_of(name: str, path: Path) -> Path:
    path = path.expanduser().absolute()
    if path.is_dir():
        found = [path / file for file in FILES if (path / file).is_file()]
        if len(found) != 1:
            raise _unusable(name, path, f"holds {len(found) or 'none'} of {' and '.join(FILES)}")
        return found[0]
    if not path.is_file():
        raise _unusable(name, path, "is not there")
    if path.suffix in _PICKLES:
        raise _unusable(name, path, _PICKLE)
    return path


def _read_shapes(name: str, file: Path) -> dict[str, tuple[int, ...]]:
    """Read the shape of each tensor of a safetensors file from its header."""
    from safetensors import safe_open

    if damage := file_damage(file):
        is_pickle = start_of(file, 4).startswith(_PICKLE_STARTS)
        raise _unusable(name, file, _PICKLE if is_pickle else damage)
    with safe_open(file, framework="numpy") as opened:
        keys = opened.keys()  # it cannot be iterated over itself
        return {key: tuple(opened.get_slice(key).get_shape()) for key in keys}


def _check_shapes(name: str, file: Path, shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Refuse what is no LoRA, a LoRA of another kind, and halves that do not belong together."""
    for key in shapes:
        if kind := next((kind for mark, kind in _OTHER_KINDS.items() if mark in key), None):
            raise _unusable(name, file, f"is {kind} ({key}); rayedit takes plain LoRA")
    of_text = [key for key in shapes if _OF_TEXT.match(key)]
    if of_text:
        raise _unusable(
            name,
            file,
            f"changes the text encoder too ({len(of_text)} tensors, such as {of_text[0]}), which "
            "rayedit does not do: save it without that part",
        )
    pairs = list(halves_of(shapes))
    if not pairs:
        first = next(iter(shapes), "nothing")
        raise _unusable(name, file, f"is no LoRA: it holds {first}, and no low-rank weight")
    for down, up in pairs:
        if missing := next((key for key in (down, up) if key not in shapes), None):
            raise _unusable(name, file, f"lacks {missing}, half of a low-rank weight")
        if len(shapes[up]) < 2 or shapes[down][:1] != shapes[up][1:2]:
            raise _unusable(
                name,
                file,
                f"has a rank of {list(shapes[down])} in {down} and of {list(shapes[up])} in the "
                "other half: the first of one must be the second of the other",
            )
    known = {key for pair in pairs for key in pair}
    for key in shapes:
        is_alpha = key.endswith(".alpha") and shapes[key] in ((), (1,))
        if key not in known and not is_alpha:
            raise _unusable(name, file, f"holds {key}, which is no part of a LoRA")


def _unusable(name: str, path: str | Path, reason: str) -> AdapterUnusable:
    return AdapterUnusable(f"style {name}: the LoRA {path} {reason}")
