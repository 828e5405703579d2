"""The figures of one evaluation and how RESULTS.md shows them."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from training.kinds import KINDS

WARNED_BAR, MISSED_BAR = 0.03, 0.85  # of what it can do, at most; of what it cannot, at least
OVERALL_BAR, KIND_BAR = 0.96, 0.75
RECONSTRUCTION_BAR_DB, EDGES_BAR = 30.0, 0.8
SECONDS_BAR = {128: 1.5, 256: 5.0}
SIZE_BAR_BYTES = 40_000_000
JUDGE_HEADING = "## The judge\n"  # from here on `evaluate_judge` writes the file


@dataclass(frozen=True)
class Scales:
    """Guidance and steps of one run."""

    text: float
    image: float
    steps: int


@dataclass(frozen=True)
class Judged:
    """One edit and what it is nearest to."""

    kind: str
    photograph: str
    language: str
    instruction: str
    nearest: str
    psnr_db: float
    edges: float

    @property
    def right(self) -> bool:
        """Nearer to the true edit of its kind than to any other and to the source."""
        return self.nearest == self.kind


@dataclass(frozen=True)
class Report:
    """One evaluation."""

    scales: Scales
    weights: str  # sha256 of the UNet
    reconstruction_db: dict[str, float]
    judged: list[Judged]
    understood: dict[str, tuple[int, int]]  # language -> (right, asked), by the text encoder alone
    # can, cannot -> (requests that it warns of, requests); empty for a folder without known_edits
    warned: dict[str, tuple[int, int]]
    by_text: dict[float, float]
    by_image: dict[float, float]
    seconds: dict[int, float]
    size_bytes: int

    @property
    def taught(self) -> list[Judged]:
        """Edits of the kinds that pocket was taught."""
        return [one for one in self.judged if one.kind in KINDS]

    @property
    def further(self) -> list[str]:
        """Name the other kinds."""
        return [kind for kind in by_kinds(self.judged) if kind not in KINDS]


def by_kinds(judged: list[Judged]) -> dict[str, list[Judged]]:
    """Kind -> its edits, in their order."""
    found: dict[str, list[Judged]] = {}
    for one in judged:
        found.setdefault(one.kind, []).append(one)
    return found


def share(judged: list[Judged]) -> float:
    """Share of right ones; 1 for none."""
    return float(np.mean([j.right for j in judged])) if judged else 1.0


def verdict(good: bool) -> str:
    """One word for a table."""
    return "yes" if good else "**no**"


def bar_lines(report: Report) -> list[str]:
    """The table of bars."""
    recon = float(np.mean(list(report.reconstruction_db.values())))
    taught = report.taught
    overall = share(taught)
    by_kind = {k: share(own) for k, own in by_kinds(taught).items()}
    worst = min(by_kind, key=lambda k: by_kind[k])
    edges = float(np.mean([j.edges for j in taught]))
    text, image = list(report.by_text.values()), list(report.by_image.values())
    rows = [
        ("reconstruction at 256 px, mean PSNR", f"{recon:.2f} dB", "30 dB", recon >= 30),
        ("the edit happens, over all", f"{overall:.1%} of {len(taught)}",
         f"{OVERALL_BAR:.0%}", overall >= OVERALL_BAR),
        (f"the edit happens, worst kind ({worst})", f"{by_kind[worst]:.0%}", f"{KIND_BAR:.0%}",
         by_kind[worst] >= KIND_BAR),
        ("edge-map correlation with the true edit, mean", f"{edges:.3f}", "0.8",
         edges >= EDGES_BAR),
        ("distance to the source rises with guidance_scale " + "/".join(map(str, report.by_text)),
         " < ".join(f"{d:.1f}" for d in text), "rising", text == sorted(text)),
        ("distance falls with image_guidance_scale " + "/".join(map(str, report.by_image)),
         " > ".join(f"{d:.1f}" for d in image), "falling", image == sorted(image, reverse=True)),
        *((f"one edit at {side} px, {report.scales.steps} steps, 2 threads", f"{s:.2f} s",
           f"{SECONDS_BAR[side]} s", s <= SECONDS_BAR[side]) for side, s in report.seconds.items()),
        *warned_rows(report.warned),
        ("size of the folder", f"{report.size_bytes / 1e6:.1f} MB", "40 MB",
         report.size_bytes <= SIZE_BAR_BYTES),
    ]  # fmt: skip
    head = ["| what | result | bar | met |", "|---|---|---|---|"]
    return head + [f"| {w} | {r} | {b} | {verdict(g)} |" for w, r, b, g in rows]


def warned_rows(warned: dict[str, tuple[int, int]]) -> list[tuple[str, str, str, bool]]:
    """What it warns of, where it does."""
    if not warned:
        return []
    (can, of_can), (cannot, of_cannot) = warned["can"], warned["cannot"]
    return [
        (f"warned of what it can do ({of_can} requests)", f"{can / of_can:.1%}",
         f"at most {WARNED_BAR:.0%}", can / of_can <= WARNED_BAR),
        (f"warned of what it cannot do ({of_cannot} requests)", f"{cannot / of_cannot:.1%}",
         f"{MISSED_BAR:.0%}", cannot / of_cannot >= MISSED_BAR),
    ]  # fmt: skip


def language_lines(title: str, judged: list[Judged]) -> list[str]:
    """Share of right edits in each language."""
    lines = []
    for language in ("english", "chinese"):
        mine = [j for j in judged if j.language == language]
        lines.append(f"| {title}, {language} | {share(mine):.1%} | {len(mine)} |")
    return lines


def kind_lines(report: Report) -> list[str]:
    """One row for each kind."""
    lines = ["| kind | right | PSNR to the true edit | edges | taken for |",
             "|---|---|---|---|---|"]  # fmt: skip
    for kind, mine in by_kinds(report.judged).items():
        wrong = Counter(j.nearest for j in mine if not j.right)
        taken = ", ".join(f"{name} {count}" for name, count in wrong.most_common()) or "-"
        lines.append(
            f"| {kind} | {sum(j.right for j in mine)}/{len(mine)} "
            f"| {np.mean([j.psnr_db for j in mine]):.1f} dB "
            f"| {np.mean([j.edges for j in mine]):.2f} | {taken} |"
        )
    return lines


def halves(file: Path) -> tuple[str, str]:
    """What `evaluate` wrote of a file, and what `evaluate_judge` did; either may be empty."""
    text = file.read_text(encoding="utf-8") if file.exists() else ""
    ours, heading, judge = text.partition(JUDGE_HEADING)
    return ours, heading + judge


def write_report(report: Report, file: Path) -> None:
    """Write the Markdown, up to what `evaluate_judge` wrote there, and print it."""
    used = report.scales
    photographs = ", ".join(f"{n} {v:.1f}" for n, v in report.reconstruction_db.items())
    text = [
        "# Results of pocket",
        "",
        "Written by `python -m training.evaluate`; do not edit. Held-out photographs of",
        f"scikit-image and scikit-learn, 128 px, {used.steps} steps, guidance {used.text:g}, image "
        f"guidance {used.image:g}, float32,",
        "through `StableDiffusionInstructPix2PixPipeline`. An edit happens if the result is nearer",
        "(PSNR) to the true edit of its kind than to the true edit of every other kind and to the",
        "source. Not counted: pairs of true edits that are alike on a photograph (over 28 dB), and",
        "edits that cannot be seen on it (over 30 dB to the source), such as keeping only the blue",
        "where nothing is blue. Requests: `phrasings/free.txt`, written by hand in two languages,",
        "never trained on.",
        "",
        *bar_lines(report),
        "",
        "| by language | share | of |",
        "|---|---|---|",
        *language_lines("edits", report.taught),
        *(line for k in report.further for line in language_lines(k, by_kinds(report.judged)[k])),
        *(
            f"| understood by the text encoder, {language} | {right / asked:.1%} | {asked} |"
            for language, (right, asked) in report.understood.items()
        ),
        "",
        f"Reconstruction at 256 px, dB: {photographs}.",
        f"Weights: UNet sha256 `{report.weights[:16]}`.",
        "",
        *kind_lines(report),
        "",
    ]
    judge = halves(file)[1]
    file.write_text("\n".join([*text, judge]).rstrip() + "\n", encoding="utf-8")
    print("\n".join(text))
