"""What pocket's text side understands: hand-written requests that no training saw."""

from __future__ import annotations

from pathlib import Path

import torch
from torch.nn import functional

from engine.weights import KNOWN_EDITS
from training.codes import code_table
from training.kinds import KINDS
from training.phrase_book import LANGUAGES, free_requests
from training.text_encoder import TextEncoder
from training.train_known_edits import Head, warned


@torch.no_grad()
def understood(encoder: TextEncoder) -> dict[str, tuple[int, int]]:
    """Language -> (requests whose end state is nearest to the code of their kind, requests)."""
    table = functional.normalize(code_table(list(KINDS)), dim=-1)
    counts = {}
    for language in LANGUAGES:
        asked = [(i, t) for i, k in enumerate(KINDS) for t in free_requests(language, k)]
        states = functional.normalize(encoder.meanings([t for _, t in asked]), dim=-1)
        right = (states @ table.T).argmax(-1) == torch.tensor([i for i, _ in asked])
        counts[language] = (int(right.sum()), len(asked))
    return counts


def warned_of(encoder: TextEncoder, folder: Path) -> dict[str, tuple[int, int]]:
    """What it can do, and what it cannot -> (requests that it warns of, requests).

    Of the half of them that did not set the bound.
    """
    head = Head.load(folder / KNOWN_EDITS)
    found = [warned(head, encoder, "measured", language) for language in LANGUAGES]
    every = {name: [w for half in found for w in half[name]] for name in ("can", "cannot")}
    return {name: (sum(warns), len(warns)) for name, warns in every.items()}
