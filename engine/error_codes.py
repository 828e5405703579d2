"""The errors by their codes."""

from __future__ import annotations

from collections.abc import Iterator

from engine import errors
from engine.errors import EngineError, InternalError


def error_classes(module: str = errors.__name__) -> list[type[EngineError]]:
    """List the leaves of a module's part of the tree, in its order: those that have a code."""

    def walk(cls: type[EngineError]) -> Iterator[type[EngineError]]:
        yield cls
        for child in cls.__subclasses__():
            yield from walk(child)

    ours = [cls for cls in walk(EngineError) if cls.__module__ == module]
    return [cls for cls in ours if not set(cls.__subclasses__()) & set(ours)]


def error_class(code: str) -> type[EngineError]:
    """Find the class of a code; `InternalError` where there is none."""
    return next((cls for cls in error_classes() if cls.code == code), InternalError)
