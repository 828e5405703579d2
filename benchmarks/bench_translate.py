"""What `translate: phrases` makes of requests in Chinese that pocket was never trained on.

Those that it can do should become the English text of their edit, the others should be refused.

    python -m benchmarks.bench_translate
"""

from __future__ import annotations

from pathlib import Path

import torch

from benchmarks.workloads import print_machine
from engine import EngineConfig
from engine.catalogue import MODELS
from engine.errors import EngineError
from engine.phrases import PhraseTranslator
from engine.registry import read_json
from engine.text import unknown_scripts
from training.kinds import KINDS
from training.phrase_book import FOLDER, free_requests


def translated(translator: PhraseTranslator, text: str) -> str | None:
    """Translate a text; None where it is refused."""
    try:
        return translator.translate(text)
    except EngineError:
        return None


def beyond() -> list[str]:
    """List the requests in Chinese that no kind of edit is."""
    texts = (FOLDER / "beyond.txt").read_text(encoding="utf-8").replace("\n", "|").split("|")
    return [text.strip() for text in texts if unknown_scripts(text, ("LATIN",))]


def main() -> None:
    """See the module's docstring."""
    print_machine(EngineConfig().threads)
    torch.set_num_threads(1)
    translator = PhraseTranslator()
    known = read_json(Path(MODELS["pocket"].source) / "known_edits" / "config.json")["edits"]
    right = count = 0
    for kind, edit in zip(KINDS, known, strict=True):
        for text in free_requests("chinese", kind):
            found, count = translated(translator, text), count + 1
            right += found == edit["english"]
            if found != edit["english"]:
                print(f"  {text}: {found or 'refused'}, not {edit['english']}")
    others = beyond()
    refused = sum(translated(translator, text) is None for text in others)
    print(f"{right} of {count} as they should be; of {len(others)} others {refused} refused")


if __name__ == "__main__":
    main()
