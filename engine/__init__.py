"""rayedit's engine: photographs edited by instruction. No Ray, no HTTP, no manifest.

`import engine` loads neither torch nor diffusers; each name is imported when first used.
"""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.1.0"

__all__ = [
    "EditActor",
    "EditFailure",
    "EditOptions",
    "EditOutcome",
    "EditRequest",
    "EditResult",
    "EngineConfig",
    "EngineError",
    "ModelSpec",
    "Source",
    "__version__",
    "load_config",
    "prepare",
]

_HOME = {
    "EditActor": "actor",
    "EditFailure": "edit",
    "EditOptions": "options",
    "EditOutcome": "edit",
    "EditRequest": "edit",
    "EditResult": "edit",
    "EngineConfig": "config",
    "EngineError": "errors",
    "ModelSpec": "registry",
    "Source": "sources",
    "load_config": "config",
    "prepare": "sources",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'engine' has no attribute {name!r}")
    return getattr(importlib.import_module(f"engine.{_HOME[name]}"), name)
