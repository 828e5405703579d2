"""The texts of an edit, as every family looks at them before it reads them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from engine.edit import EditRequest
from engine.spec import ModelSpec
from engine.text import check_scripts


class Reader(Protocol):
    """Knows how long a text its model reads."""

    def check(self, text: str, model: str, *, param: str) -> None:
        """Raises `InstructionTooLong` for a text that is longer; `param` names it."""


def check_texts(request: EditRequest, spec: ModelSpec, reader: Reader) -> Sequence[str]:
    """Refuse texts that are too long, and warn of a script that the model does not know.

    Raises `InstructionTooLong`, and `InstructionLanguage` where the edit is strict about it.
    """
    options = request.options
    reader.check(request.instruction, spec.name, param="instruction")
    reader.check(options.negative_prompt or "", spec.name, param="negative_prompt")
    return check_scripts(
        request.instruction, spec.scripts, spec.name, strict=options.strict_language
    )
