"""Train what pocket warns with: does an instruction ask for one of the edits that it knows?

A small head on the states of the trained text encoder, which stays as it is. It learns from drawn
phrasings of the known edits, two joined among them, and from drawn requests for others
(`elsewhere.py`). Its bound is set on one half of the hand-written requests (`free.txt`,
`beyond.txt`), which no training sees; the other half measures it. On a CPU: some minutes.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional

from engine.models.known_edits import WEIGHTS, features_of
from training.codes import code_table
from training.elsewhere import Elsewhere, beyond
from training.phrase_book import (
    LANGUAGES,
    SLOTS,
    colour_words,
    every_kind,
    family_of,
    free_requests,
    phrases,
    sections,
    surroundings,
)
from training.text_encoder import TextEncoder
from training.train_text import Lessons

INNER = 64
BARE_SHARE = 0.4  # of the known edits: phrases as they stand
NAMES_TIMES = 4  # as often as this the texts that stand for the kinds are among those
SMOOTHING = 0.02  # of the labels
MARGIN = 0.01  # of a score: float16 weights move it by less
HIGHEST = 5  # of 130 scores: one alone is set by the oddest request (docs/decisions.md)
HALVES = ("bound", "measured")


@dataclass(frozen=True)
class Asked:
    """Hand-written requests of one half."""

    can: list[str]
    cannot: list[str]

    @classmethod
    def of(cls, half: str, language: str) -> Asked:
        """Every second request, in the order of the files."""
        start = HALVES.index(half)
        can = [text for kind in every_kind() for text in free_requests(language, kind)]
        return cls(can[start::2], list(beyond(language))[start::2])


@torch.no_grad()
def features(encoder: TextEncoder, texts: list[str]) -> Tensor:
    """(N, F) float32 of the texts, as `engine.models.known_edits` sees them."""
    found = []
    for text in texts:
        tokens = encoder.tokenizer(text, truncation=True, max_length=77)
        found.append(features_of(encoder.sequences([text])[0], len(tokens.input_ids)))
    return torch.stack(found)


def names() -> list[str]:
    """The texts that stand for the kinds, in every language."""
    said = [line for kind in every_kind() for line in sections("said")[kind].splitlines()]
    return [line.split(": ", 1)[1] for line in said]


def bare_phrases() -> list[str]:
    """Every phrase of every kind without a template."""
    found = []
    for language, kind, slot in product(LANGUAGES, every_kind(), SLOTS):
        family, colour = family_of(kind)
        word = colour_words(language, colour)[0] if colour else ""
        it = surroundings(language, "it")[0].strip()
        listed = phrases(language, family, slot, "all")
        found += [text.replace("{c}", word).replace("{it}", it) for text in listed]
    return found


def lessons(encoder: TextEncoder, count: int, seed: int) -> tuple[Tensor, Tensor]:
    """(features (2 count, F), labels (2 count,): 1 for what is not known)."""
    known, other = Lessons(seed, "all"), Elsewhere(seed + 1)
    bare = bare_phrases()
    order = np.random.default_rng(seed).permutation(len(bare))
    bare = NAMES_TIMES * names() + [bare[place] for place in order]
    texts = [known.one()[0] or bare[0] for _ in range(count)]
    for number in range(int(count * BARE_SHARE)):
        texts[number] = bare[number % len(bare)]
    texts += [other.draw() for _ in range(count)]
    labels = torch.cat([torch.zeros(count), torch.ones(count)])
    return features(encoder, texts), labels


class Head(nn.Module):
    """Features (N, F) -> scores (N,), above 0 for an edit that is not known."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.inner = nn.Linear(width, INNER)
        self.outer = nn.Linear(INNER, 1)
        self.drop = nn.Dropout(0.2)

    def forward(self, values: Tensor) -> Tensor:
        """The score of each."""
        return self.outer(self.drop(functional.silu(self.inner(values))))[:, 0]

    @classmethod
    def load(cls, folder: Path) -> Head:
        """Read it from where `save` wrote it."""
        weights = load_file(folder / WEIGHTS)
        head = cls(weights["inner.weight"].shape[1])
        del weights["codes"]
        head.load_state_dict({name: weight.float() for name, weight in weights.items()})
        return head.eval()

    @torch.no_grad()
    def warns(self, values: Tensor) -> Tensor:
        """(N,) bool: the edit that is asked for is not known."""
        return self(values) > 0

    @torch.no_grad()
    def take_in(self, mean: Tensor, spread: Tensor) -> None:
        """From now on it is given features as they are, not (features - mean) / spread."""
        self.inner.weight /= spread
        self.inner.bias -= self.inner.weight @ mean


def fit(values: Tensor, labels: Tensor, steps: int, lr: float) -> Head:
    """Train a head."""
    mean, spread = values.mean(dim=0), values.std(dim=0) + 1e-4
    head = Head(values.shape[1]).train()
    optimiser = torch.optim.AdamW(head.parameters(), lr=lr, weight_decay=0.05)
    soft = labels * (1 - 2 * SMOOTHING) + SMOOTHING
    for step in range(steps):
        for group in optimiser.param_groups:
            group["lr"] = lr * (1 - step / steps)
        chosen = torch.randint(0, len(values), (512,))
        scores = head((values[chosen] - mean) / spread)
        loss = functional.binary_cross_entropy_with_logits(scores, soft[chosen])
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
    head.take_in(mean, spread)
    return head.eval()


@torch.no_grad()
def set_bound(head: Head, can: Tensor) -> None:
    """Move the scores so that of what it can do the highest are on average just below 0."""
    head.outer.bias -= head(can).topk(HIGHEST).values.mean() + MARGIN


def warned(head: Head, encoder: TextEncoder, half: str, language: str) -> dict[str, list[bool]]:
    """Of each request of one half, what it can do and what not: is it warned of."""
    asked = Asked.of(half, language)
    pair = {"can": asked.can, "cannot": asked.cannot}
    return {name: head.warns(features(encoder, texts)).tolist() for name, texts in pair.items()}


def save(head: Head, folder: Path) -> None:
    """Write `config.json` and the weights, the codes of the edits among them."""
    folder.mkdir(parents=True, exist_ok=True)
    said = sections("said")
    edits = [dict(line.split(": ", 1) for line in said[k].splitlines()) for k in every_kind()]
    text = json.dumps({"edits": edits}, indent=1, ensure_ascii=False)
    (folder / "config.json").write_text(text + "\n", encoding="utf-8")
    codes = functional.normalize(code_table(every_kind()), dim=-1)
    weights = {"codes": codes, **head.state_dict()}
    save_file({name: w.half().contiguous() for name, w in weights.items()}, folder / WEIGHTS)


def main() -> None:
    """Command line: `python -m training.train_known_edits --text DIR --output DIR`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--text", type=Path, required=True, help="folder of the text encoder")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--count", type=int, default=12000, help="requests of each sort")
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--lr", type=float, default=3e-3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)
    encoder = TextEncoder.load(options.text)
    head = fit(*lessons(encoder, options.count, options.seed), options.steps, options.lr)
    bound = [Asked.of("bound", language).can for language in LANGUAGES]
    set_bound(head, features(encoder, [text for texts in bound for text in texts]))
    save(head, options.output)
    for half, language in product(HALVES, LANGUAGES):
        found = warned(head, encoder, half, language)
        print(half, language, {name: f"{sum(w)} of {len(w)}" for name, w in found.items()})


if __name__ == "__main__":
    main()
