"""Train pocket's text side alone: every phrasing of a kind of edit -> the code of that kind.

Loss at the end-of-text position and after it: distance to the code, and cross-entropy over all
kinds; before it: distance to the one code for "still reading". With --teacher the end-of-text state
must also tell what MiniLM says of the sentence, on phrasings and on sentences of common words.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from training.codes import POSITIONS, READING, WIDTH, code_table, kind_code, part_code
from training.kinds import BY_NAME
from training.phrase_book import LANGUAGES, PhraseBook, every_kind
from training.sentence_teacher import SentenceTeacher
from training.text_encoder import TextEncoder, new_text_model
from training.text_tokenizer import make_tokenizer, save_tokenizer

EMPTY_SHARE = 0.02
JOINED_SHARE = 0.10  # requests for two kinds that are joined at random
TEMPERATURE = 0.1
WORD_NOISE = 0.06
OPENERS = [
    "black_and_white",
    "sepia",
    "brighter",
    "darker",
    "contrast",
    "vivid",
    "faded",
    "warm",
    "cool",
    "night",
    "sunset",
    "fog",
    "winter",
    "autumn",
    "pencil_sketch",
    "blur",
    "tint_red",
    "tint_blue",
    "tint_green",
    "tint_purple",
]
CLOSERS = [
    "vignette",
    "frame_white",
    "frame_black",
    "blur",
    "fog",
    "night",
    "centre_focus",
    "negative",
]


class Lessons:
    """Draws (instruction, code, index of the kind or -1)."""

    def __init__(self, seed: int, part: str) -> None:
        self.book = PhraseBook(seed, part)
        self.random = np.random.default_rng(seed)
        self.names = ["", *every_kind()]
        self.table = code_table(self.names)

    def one(self) -> tuple[str, Tensor, int]:
        """One instruction."""
        chance = self.random.random()
        if chance < EMPTY_SHARE:
            return "", self.table[0], 0
        if chance < EMPTY_SHARE + JOINED_SHARE:
            first = OPENERS[self.random.integers(len(OPENERS))]
            second = CLOSERS[self.random.integers(len(CLOSERS))]
            if first != second and f"{first}+{second}" not in self.names:
                return self.two(first, second)
        index = int(self.random.integers(1, len(self.names)))
        return self.book.draw(self.names[index]), self.table[index], index

    def two(self, first: str, second: str) -> tuple[str, Tensor, int]:
        """Two kinds in one instruction; the code is the sum of theirs."""
        language = LANGUAGES[self.random.integers(2)]
        text = self.book.dress(language, self.book.joined(language, first, second))
        parts = BY_NAME[first].parts + BY_NAME[second].parts
        return text, torch.from_numpy(kind_code(parts)), -1

    def batch(self, count: int) -> tuple[list[str], Tensor, Tensor]:
        """(texts, codes (N, 192), indices (N,))."""
        texts, codes, indices = zip(*(self.one() for _ in range(count)), strict=True)
        return list(texts), torch.stack(codes), torch.tensor(indices)


def text_loss(
    states: Tensor, tokens: Tensor, codes: Tensor, lesson: tuple[Tensor, Tensor]
) -> Tensor:
    """states (N, L, 192), tokens (N, L), codes (N, 192), lesson = (table, indices)."""
    table, indices = lesson
    done = (tokens == tokens[:, -1:]).float()  # the padding token is the end-of-text token
    reading = torch.from_numpy(part_code(READING)).to(states.device)
    after = (states - codes[:, None]).square().mean(-1)
    before = (states - reading).square().mean(-1)
    distance = (after * done).sum() / done.sum() + 0.1 * (before * (1 - done)).mean()
    first_end = done.argmax(dim=1)
    ends = torch.stack([states[torch.arange(len(states)), first_end], states[:, -1]])
    logits = functional.normalize(ends, dim=-1) @ functional.normalize(table[1:], dim=-1).T
    target = (indices - 1).clamp(min=-1)
    target = torch.where(indices <= 0, -1, target).repeat(2)
    cross = functional.cross_entropy(logits.flatten(0, 1) / TEMPERATURE, target, ignore_index=-1)
    return distance + 0.3 * cross


@torch.no_grad()
def accuracy(encoder: TextEncoder, part: str, each: int, seed: int = 7) -> dict[str, float]:
    """Language -> share of drawn instructions whose meaning is nearest to their kind's code."""
    table = functional.normalize(code_table(every_kind()), dim=-1)
    shares: dict[str, float] = {}
    for language in LANGUAGES:
        book = PhraseBook(seed, part)
        right = [
            (functional.normalize(encoder.meanings(texts), dim=-1) @ table.T).argmax(-1) == index
            for index, kind in enumerate(every_kind())
            for texts in [[book.draw(kind, language) for _ in range(each)]]
        ]
        shares[language] = round(float(torch.cat(right).float().mean()), 4)
    return shares


def teacher_loss(
    teacher: SentenceTeacher, head: nn.Module, encode: Callable[[list[str]], Tensor], count: int
) -> Tensor:
    """1 - cosine between the head's reading of our state and MiniLM's sentence vector."""
    texts, vectors = teacher.batch(count)
    return (1 - functional.cosine_similarity(head(encode(texts)), vectors, dim=-1)).mean()


class TextTrainer:
    """Model, optimiser and one step."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.lessons = Lessons(options.seed, options.part)
        self.teacher = SentenceTeacher(options.teacher, options.seed) if options.teacher else None
        folder = options.output
        if (folder / "tokenizer").exists():
            self.encoder = TextEncoder.load(folder)
        else:
            book = PhraseBook(1)
            english = [book.draw(k, "english") for k in every_kind() for _ in range(200)]
            chinese = [book.draw(k, "chinese") for k in every_kind() for _ in range(50)]
            words = self.teacher.words if self.teacher else []
            tokenizer = make_tokenizer(english + words, chinese)
            self.encoder = TextEncoder(tokenizer, new_text_model(tokenizer))
        self.model = self.encoder.model.train()
        self.head = nn.Linear(WIDTH, 384)
        weights = [*self.model.parameters(), *self.head.parameters()]
        self.optimiser = torch.optim.AdamW(weights, lr=options.lr, weight_decay=0.02)

    def states(self, texts: list[str], noise: float = 0.0) -> tuple[Tensor, Tensor]:
        """(tokens, states), padded a little past the longest text, now and then to 77.

        `noise` is the share of tokens that are replaced by any other, so that no one word decides.
        """
        full = self.lessons.random.random() < 0.08
        tokens = self.encoder.tokens(texts)
        longest = int((tokens != tokens[:, -1:]).sum(dim=1).max())
        tokens = tokens if full else tokens[:, : min(POSITIONS, longest + 6)]
        inside = (tokens != tokens[:, -1:]) & (tokens != tokens[:, :1])
        replaced = inside & (torch.rand(tokens.shape) < noise)
        read = torch.where(
            replaced, torch.randint(2, len(self.encoder.tokenizer), tokens.shape), tokens
        )
        return tokens, self.model(read).last_hidden_state

    def train_step(self, step: int) -> float:
        """One optimiser step; the loss."""
        share = step / self.options.steps
        for group in self.optimiser.param_groups:
            warm = min(1.0, (step + 1) / 50)
            group["lr"] = self.options.lr * warm * min(1.0, 1.05 - share)
        texts, codes, indices = self.lessons.batch(self.options.batch)
        tokens, states = self.states(texts, WORD_NOISE)
        loss = text_loss(states, tokens, codes, (self.lessons.table, indices))
        if self.teacher:
            loss = loss + 0.5 * teacher_loss(
                self.teacher, self.head, lambda t: self.states(t)[1][:, -1], self.options.batch // 2
            )
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimiser.step()
        return float(loss.detach())

    def save(self) -> None:
        """Write tokenizer and model."""
        save_tokenizer(self.encoder.tokenizer, self.options.output / "tokenizer")
        self.model.save_pretrained(self.options.output / "text_encoder")

    def run(self) -> None:
        """Until --steps, with accuracies every --every steps."""
        self.options.output.mkdir(parents=True, exist_ok=True)
        began, losses = time.monotonic(), []
        for step in range(self.options.steps):
            losses.append(self.train_step(step))
            if (step + 1) % self.options.every == 0 or step + 1 == self.options.steps:
                self.model.eval()
                found = {part: accuracy(self.encoder, part, 4) for part in ("train", "held_out")}
                self.model.train()
                line = {"step": step + 1, "loss": round(float(np.mean(losses)), 4), **found}
                line["seconds"] = round(time.monotonic() - began)
                with (self.options.output / "log.jsonl").open("a") as log:
                    log.write(json.dumps(line) + "\n")
                print(line, flush=True)
                losses = []
                self.save()


def main() -> None:
    """Command line: `python -m training.train_text --output DIR [--teacher minilm]`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--teacher", choices=["minilm"], help="distil a sentence encoder as well")
    parser.add_argument("--part", choices=["train", "all"], default="train", help="phrasings")
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--batch", type=int, default=96)
    parser.add_argument("--lr", type=float, default=1.5e-3)
    parser.add_argument("--every", type=int, default=250)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    TextTrainer(options).run()


if __name__ == "__main__":
    main()
