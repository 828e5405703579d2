"""DataFlow's JSONL of image edits, as a manifest: `images` and `conversations`.

The shape is that of OpenDCAI/DataFlow-MM, `dataflow/example/image_gen/image_edit/` and its operator
`PromptedImageEditGenerator` (commit a5d48e0): `images` is a path or a list of paths, relative to
the file, of which the first is edited; the last message's `content` is the instruction.
"""

from __future__ import annotations

from typing import Any

from batch_jobs.manifest.row import Row
from engine.errors import InstructionEmpty

NAMES = {"images": "image", "conversations": "instruction"}


def read_line(line: dict[str, Any]) -> Row:
    """Read a line; `id`, mask and options, if it has any, are read as in any JSONL."""
    row = Row()
    row.set_image(line.get("images"))
    conversations = line.get("conversations")
    last = conversations[-1] if isinstance(conversations, list) and conversations else None
    if isinstance(last, dict) and isinstance(last.get("content"), str):
        row.set_instruction(last["content"])
    else:
        wanted = '[{"role": "user", "content": "make it night"}]'
        row.refuse(InstructionEmpty(f"conversations must be such as {wanted}"))
    return row
