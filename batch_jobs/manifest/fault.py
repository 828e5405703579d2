"""Why a row cannot be edited, as it is kept: in a plan, in a ledger."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from engine.error_codes import error_class
from engine.errors import EngineError


@dataclass(frozen=True, slots=True)
class Fault:
    """Carries an error between processes and runs."""

    code: str  # of docs/errors.md
    message: str
    param: str | None = None  # the option or field that was wrong, if one was

    @classmethod
    def of(cls, error: EngineError) -> Self:
        """Keep what an error says."""
        return cls(error.code, error.message, error.param)

    def error(self) -> EngineError:
        """Make the error again."""
        return error_class(self.code)(self.message, param=self.param)
