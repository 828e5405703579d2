"""A model whose decoding ends its process on demand; it imports little, as a decoder may."""

from __future__ import annotations

import os
from dataclasses import fields

from engine.spec import ModelSpec

FATAL = "48x48"  # rows of this size end the process that decodes them


class FragileSpec(ModelSpec):
    def check_size(self, size_px: tuple[int, int] | None) -> None:
        if size_px == (48, 48):
            os._exit(11)
        super().check_size(size_px)


def fragile(spec: ModelSpec) -> FragileSpec:
    return FragileSpec(**{field.name: getattr(spec, field.name) for field in fields(spec)})
