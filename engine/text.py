"""The instruction as text: cleaned, bounded, and which writing systems it uses."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

from engine.errors import InstructionEmpty, InstructionTooLong
from engine.options import MAX_INSTRUCTION_CHARACTERS

_INVISIBLE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
_SHARE = 0.3  # below this share of the letters, foreign ones are taken for names


def clean_instruction(text: object) -> str:
    """NFC, without control and bidirectional-override characters, stripped.

    Raises `InstructionEmpty` and `InstructionTooLong`.
    """
    if not isinstance(text, str):
        raise InstructionEmpty(f"instruction must be text; got {type(text).__name__}")
    if len(text) > 4 * MAX_INSTRUCTION_CHARACTERS:  # before normalizing, which is quadratic
        raise _too_long(len(text))
    try:
        text.encode()
    except UnicodeEncodeError:
        raise InstructionEmpty("instruction is not valid Unicode (a lone surrogate)") from None
    cleaned = _INVISIBLE.sub("", unicodedata.normalize("NFC", text)).strip()
    if not cleaned:
        raise InstructionEmpty('instruction is empty; say what to do, such as "make it night"')
    if len(cleaned) > MAX_INSTRUCTION_CHARACTERS:
        raise _too_long(len(cleaned))
    return cleaned


def _too_long(characters: int) -> InstructionTooLong:
    return InstructionTooLong(
        f"instruction has {characters} characters; at most {MAX_INSTRUCTION_CHARACTERS}"
    )


def unknown_scripts(text: str, known: Sequence[str]) -> list[str]:
    """The scripts outside `known` ("LATIN", "CJK", ...; Unicode name prefixes) of a text that is
    more than 30% foreign; otherwise empty."""
    letters = [unicodedata.name(c, "UNKNOWN").split()[0] for c in text if c.isalpha()]
    foreign = [script for script in letters if script not in known]
    return sorted(set(foreign)) if len(foreign) > _SHARE * len(letters) else []
