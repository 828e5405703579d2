"""The instruction as text: cleaned, bounded, and which writing systems it uses."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

from engine.errors import InstructionEmpty, InstructionLanguage, InstructionTooLong
from engine.options import MAX_INSTRUCTION_CHARACTERS

_INVISIBLE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
# What nobody sees: spaces, and Unicode's Default_Ignorable_Code_Point (DerivedCoreProperties.txt)
# with the blank of Braille. Joiners and variation selectors mean something beside other characters.
_UNSEEN = (
    "\\s\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f"
    "\u2800\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufff8\U0001bca0-\U0001bca3\U0001d173-\U0001d17a"
    "\U000e0000-\U000e0fff"
)
_BLANK = re.compile(f"[{_UNSEEN}]*")
# At the ends of a file, a cell, a word: spaces and those of no width, and the mark of UTF-8 files.
_ENDS = re.compile("^[\\s\u200b\u2060\ufeff]+|[\\s\u200b\u2060\ufeff]+$")
_SHARE = 0.3  # below this share of the letters, foreign ones are taken for names


def clean_instruction(text: object) -> str:
    """Clean an instruction: NFC, without controls and bidirectional overrides, its ends stripped.

    Raises `InstructionEmpty` and `InstructionTooLong`.
    """
    if not isinstance(text, str):
        raise InstructionEmpty(f"instruction must be text; got {type(text).__name__}")
    if len(text) > 4 * MAX_INSTRUCTION_CHARACTERS:  # before normalizing, which is quadratic
        raise _too_long(len(text))
    if has_lone_surrogate(text):
        raise InstructionEmpty("instruction is not valid Unicode (a lone surrogate)")
    cleaned = _ENDS.sub("", without_controls(unicodedata.normalize("NFC", text)))
    if is_blank(cleaned):
        raise InstructionEmpty('instruction is empty; say what to do, such as "make it night"')
    if len(cleaned) > MAX_INSTRUCTION_CHARACTERS:
        raise _too_long(len(cleaned))
    return cleaned


def is_blank(text: str) -> bool:
    """Tell whether nobody would see anything of a text."""
    return _BLANK.fullmatch(without_controls(text)) is not None


def without_controls(text: str) -> str:
    """Leave out what moves a cursor or turns a line around; a line break and a tab stay."""
    return _INVISIBLE.sub("", text)


def has_lone_surrogate(text: str) -> bool:
    """Find half of a UTF-16 pair, as JSON may hold it: no encoding can carry it."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return True
    return False


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


def check_scripts(text: str, known: Sequence[str], model: str, *, strict: bool) -> list[str]:
    """Return the warning codes of a text whose script the model does not know.

    Raises `InstructionLanguage` in their place where `strict`.
    """
    unknown = unknown_scripts(text, known)
    if unknown and strict:
        raise InstructionLanguage(
            f"model {model} does not know the script {', '.join(unknown)}; it knows "
            f"{', '.join(known)}"
        )
    return ["language_unsupported"] if unknown else []


def check_length(tokens: int, bound: int, model: str, *, param: str) -> None:
    """Raises `InstructionTooLong` where a text has more tokens than the model reads."""
    if tokens > bound:
        raise InstructionTooLong(
            f"{param} has {tokens} tokens and model {model} reads {bound}: make it shorter",
            param=param,
        )
