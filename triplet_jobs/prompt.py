"""The prompt of a language model that rewrites captions, and how its answers are sampled."""

from __future__ import annotations

import hashlib

from triplet_jobs.rewriting import AFTER_CAPTION, BETWEEN, END

# InstructPix2Pix's own (its dataset_creation/generate_txt_dataset.py).
SAMPLING = {"temperature": 0.7, "max_tokens": 256, "frequency_penalty": 0.1}
SYSTEM = f"""\
You write edits of pictures. For the caption of a picture answer with an instruction that edits \
it, a line {BETWEEN.strip()}, the caption of the edited picture, and a line {END.strip()}; nothing \
else. The instruction is short, as people write to an image editor; the edited caption says all \
that the caption says but what the instruction changes. Both are in the language of the caption."""
EXAMPLES = (
    (
        "a girl riding a horse by a cliff",
        "have her ride a dragon",
        "a girl riding a dragon by a cliff",
    ),
    ("湖边的一座木屋，秋天的树林", "改成冬天", "湖边的一座木屋，冬天被雪覆盖的树林"),
    ("portrait of a man in a suit", "make it a marble statue", "marble statue of a man in a suit"),
)
RECIPE = hashlib.sha256(f"{SYSTEM}{EXAMPLES}{SAMPLING}".encode()).hexdigest()[:8]


def chat_of(text: str) -> list[dict[str, str]]:
    """Ask for an edit of a caption in the messages of a chat."""
    shots = [
        message
        for caption, instruction, edited in EXAMPLES
        for message in (
            _said("user", f"{caption}{AFTER_CAPTION}"),
            _said("assistant", f"{instruction}{BETWEEN}{edited}{END}"),
        )
    ]
    return [_said("system", SYSTEM), *shots, _said("user", f"{text}{AFTER_CAPTION}")]


def text_of(text: str) -> str:
    """Ask for it in a text that a model without chats goes on with."""
    shots = [
        f"{caption}{AFTER_CAPTION}{instruction}{BETWEEN}{edited}{END}\n\n"
        for caption, instruction, edited in EXAMPLES
    ]
    return f"{''.join(shots)}{text}{AFTER_CAPTION}"


def _said(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}
