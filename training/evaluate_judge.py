"""Measure pocket's judge on held-out photographs; the second half of RESULTS.md.

`python -m training.evaluate_judge --model FOLDER`: which true edits it knows; how well its word of
what was asked for tells pocket's right results from its wrong ones (area under the ROC curve, over
the 248 requests of `evaluate`, with good scales and cheap ones); how two edits at once are read.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from sklearn.metrics import roc_auc_score

from engine.quality.judge import WEIGHTS, PocketJudge
from engine.weights import JUDGE
from training.answers import NAMES
from training.crops import Colours
from training.evaluate import DEFAULTS, SIDE_PX, Editor, free_form, sources_at
from training.exam import Exam, answers, to_bytes
from training.kinds import BASE, KINDS
from training.measures import nearest, shows, true_edits
from training.pairs import sees
from training.photographs import Pixels
from training.report import JUDGE_HEADING, Scales, halves, verdict

KNOWN_BAR, AUC_BAR = 0.85, 0.9
SIZE_BAR_BYTES = 2_000_000
SETTINGS = {  # at the defaults nearly all results are right
    "the defaults": DEFAULTS,
    "one branch": Scales(1.0, 1.0, DEFAULTS.steps),
    "in 2 steps": Scales(1.0, 1.0, 2),
}
ALL = "all of them"
PAIRS_PER_PHOTOGRAPH = 40  # of two kinds, tried in one order


@dataclass(frozen=True)
class Results:
    """What pocket made of requests at one setting."""

    sources: Pixels  # (N, 128, 128, 3)
    edited: Pixels  # (N, 128, 128, 3)
    kinds: list[str]  # that were asked for
    right: list[bool]  # as `evaluate` counts it

    def words(self, judge: PocketJudge) -> list[float]:
        """Of each, how sure it is of the kind that was asked for."""
        found = answers(judge, self.sources, self.edited)
        return [float(row[NAMES.index(kind)]) for row, kind in zip(found, self.kinds, strict=True)]


@dataclass(frozen=True)
class Told:
    """How the judge's word of results goes with whether they are right."""

    name: str
    right: int
    words: tuple[float, float]  # of right ones and of wrong ones, on average
    auc: float
    count: int

    @classmethod
    def of(cls, name: str, right: list[bool], words: list[float]) -> Told:
        """NaN where all are right, or all wrong."""
        good = [word for word, fine in zip(words, right, strict=True) if fine]
        bad = [word for word, fine in zip(words, right, strict=True) if not fine]
        auc = float(roc_auc_score(right, words)) if good and bad else float("nan")
        means = tuple(float(np.mean(some)) if some else float("nan") for some in (good, bad))
        return cls(name, len(good), (means[0], means[1]), auc, len(right))


def make(editor: Editor, scales: Scales, each: int, every: int) -> Results:
    """Every request that shows on its photograph, as `evaluate` has them."""
    sources = sources_at(SIDE_PX)
    truths = {name: true_edits(source) for name, source in sources.items()}
    before: list[Colours] = []
    after: list[Colours] = []
    kinds: list[str] = []
    right: list[bool] = []
    for kind in list(KINDS)[::every]:
        asked = [a for a in free_form(kind, each) if shows(kind, truths[a[0]])]
        if not asked:
            continue
        pictures = [sources[name] for name, _, _ in asked]
        results = editor.edit(pictures, [text for *_, text in asked], scales)
        before += pictures
        after += results
        kinds += [kind] * len(asked)
        right += [
            nearest(result, kind, truths[name]) == kind
            for result, (name, _, _) in zip(results, asked, strict=True)
        ]
    return Results(to_bytes(before), to_bytes(after), kinds, right)


def results_of(name: str, options: argparse.Namespace) -> Results:
    """From --pictures, where they are kept; else made, and kept there."""
    file = options.pictures / f"{name}.npz" if options.pictures else None
    if file and file.exists():
        kept = np.load(file)
        return Results(
            kept["sources"], kept["edited"], kept["kinds"].tolist(), kept["right"].tolist()
        )
    editor = Editor(options.model, "cpu")
    results = make(editor, SETTINGS[name], options.each, options.every)
    if file:
        file.parent.mkdir(parents=True, exist_ok=True)
        np.savez(file, **vars(results))
    return results


def doubles(source: Colours, seed: int) -> Iterator[tuple[int, int, list[Colours]]]:
    """Two kinds that both show, and no kind of their own: [both, first, second]; random order."""
    random = np.random.default_rng(seed)
    for _ in range(PAIRS_PER_PHOTOGRAPH):
        first, second = random.choice([kind.name for kind in BASE], 2, replace=False)
        one, other = KINDS[first].apply(source), KINDS[second].apply(source)
        both = KINDS[second].apply(one)
        apart = sees(one, source) and sees(other, source) and sees(both, one) and sees(both, other)
        if apart and f"{first}+{second}" not in KINDS:
            yield NAMES.index(first), NAMES.index(second), [both, one, other]


def of_two(judge: PocketJudge, photographs: int) -> dict[str, float]:
    """How well each reading of two answers tells both edits from one of them alone: AUC."""
    sources, edited, kinds, right = [], [], [], []
    for seed, source in enumerate(islice(sources_at(SIDE_PX).values(), photographs)):
        for first, second, pictures in doubles(source, seed):
            sources += [source] * len(pictures)
            edited += pictures
            kinds += [(first, second)] * len(pictures)
            right += [True, False, False]
    pair = answers(judge, to_bytes(sources), to_bytes(edited)).gather(1, torch.tensor(kinds))
    readings = {
        "the smaller": pair.amin(dim=1),
        "the sum": pair.sum(dim=1),
        "the product": pair.prod(dim=1),
    }
    return {name: float(roc_auc_score(right, value)) for name, value in readings.items()}


def bars(options: argparse.Namespace, judge: PocketJudge, told: list[Told]) -> list[str]:
    """The table of bars."""
    exam = Exam.of_held_out()
    known = {name: float(np.mean(right)) for name, right in exam.right(judge).items()}
    unchanged = exam.unchanged(judge)
    size = (options.model / JUDGE / WEIGHTS).stat().st_size
    by_name = {t.name: t for t in told}
    rows = [
        (f"true edits ({len(exam.kinds)}) whose kind is its first answer", f"{known['fair']:.1%}",
         f"{KNOWN_BAR:.0%}", verdict(known["fair"] >= KNOWN_BAR)),
        ("the same, kinds that look alike there told apart too", f"{known['all']:.1%}", "-", "-"),
        ("photographs as they are, of which it says none",
         f"{sum(unchanged)} of {len(unchanged)}", "-", "-"),
        *((f"AUC between right and wrong results, {name}", f"{by_name[name].auc:.3f}",
           f"{AUC_BAR}", verdict(by_name[name].auc >= AUC_BAR))
          for name in ("the defaults", ALL) if name in by_name),
        ("size of its weights", f"{size / 1e6:.2f} MB", "2 MB", verdict(size <= SIZE_BAR_BYTES)),
    ]  # fmt: skip
    head = ["| what | result | bar | met |", "|---|---|---|---|"]
    return head + [f"| {w} | {r} | {b} | {m} |" for w, r, b, m in rows]


def evaluate(options: argparse.Namespace) -> str:
    """The half of the report."""
    judge = PocketJudge.load(options.model)
    results = {name: results_of(name, options) for name in options.settings}
    words = {name: made.words(judge) for name, made in results.items()}
    told = [Told.of(name, made.right, words[name]) for name, made in results.items()]
    every = [right for made in results.values() for right in made.right]
    told.append(Told.of(ALL, every, [word for mine in words.values() for word in mine]))
    lines = [
        JUDGE_HEADING,
        "Written by `python -m training.evaluate_judge`; do not edit. Photographs, edits, requests",
        "and which results are right: as above. Its word of a result is how sure it is, 0 to 1,",
        "of the kind that was asked for. One branch: guidance and image guidance 1, in as many",
        "steps as the defaults or in 2.",
        "",
        *bars(options, judge, told),
        "",
        "| results of pocket | right | word of right ones | of wrong ones | AUC |",
        "|---|---|---|---|---|",
        *(
            f"| {t.name} | {t.right} of {t.count} "
            f"| {t.words[0]:.2f} | {t.words[1]:.2f} | {t.auc:.3f} |"
            for t in told
        ),
        "",
        "| two kinds at once: true edits of both against true edits of one of them | AUC |",
        "|---|---|",
        *(f"| {name} of both | {auc:.3f} |" for name, auc in of_two(judge, 8).items()),
        "",
    ]
    return "\n".join(lines)


def main() -> None:
    """Command line: `python -m training.evaluate_judge --model FOLDER`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, default=Path("engine/models/pocket"))
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "RESULTS.md")
    parser.add_argument("--pictures", type=Path, help="folder that keeps what pocket makes")
    parser.add_argument("--settings", nargs="+", choices=SETTINGS, default=list(SETTINGS))
    parser.add_argument("--every", type=int, default=1, help="every n-th kind alone is asked for")
    parser.add_argument("--each", type=int, default=3, help="requests a kind and language")
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    text = evaluate(options)
    options.output.write_text(halves(options.output)[0].rstrip() + "\n\n" + text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
