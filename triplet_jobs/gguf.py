"""GGUF: a language model in one file, weights, tokenizer and chat template."""

from __future__ import annotations

import hashlib
from importlib.util import find_spec
from pathlib import Path

from engine.errors import ModelError

SUFFIX, MAGIC = ".gguf", b"GGUF"


def find_gguf(place: Path) -> Path | None:
    """Find the file of a language model that is GGUF: `place` itself, or the one of a folder.

    None where there is none, or safetensors are beside it. Raises `ModelError` for several, and
    where the package that reads them is missing.
    """
    if place.suffix == SUFFIX:
        files = [place]
    else:
        files = [] if any(place.glob("*.safetensors")) else sorted(place.glob(f"*{SUFFIX}"))
    if not files:
        return None
    if len(files) > 1:
        names = ", ".join(file.name for file in files[:3])
        raise ModelError(f"{place} holds {len(files)} GGUF files ({names}, ...): name one of them")
    if find_spec("gguf") is None:
        raise ModelError(
            f"{files[0]} is GGUF, which is read by a package of its own: pip install "
            "'rayedit[gguf]', or serve it with llama.cpp's llama-server and give its URL"
        )
    return files[0]


def digest_gguf(file: Path) -> str:
    """Digest such a file, all that its answers depend on; raises `ModelError` where it is none."""
    with file.open("rb") as read:
        if read.read(len(MAGIC)) != MAGIC:
            raise ModelError(f"{file} is called GGUF, and its content is something else")
        read.seek(0)
        return hashlib.file_digest(read, "sha256").hexdigest()
