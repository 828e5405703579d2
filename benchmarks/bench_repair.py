"""What is found of spoiled results, what `repair` mends of them, and what it leaves alone.

Every kind of edit that pocket knows on held-out photographs: the true edit, the kind's own
arithmetic, and with `--pocket` what the model made. Each is measured and repaired as it is, which
should do nothing, then spoiled by a known blur or a known cast; PSNR is to the true edit.

    python -m benchmarks.bench_repair            # true edits, 256 px
    python -m benchmarks.bench_repair --pocket   # pocket's, on its own canvas
"""

from __future__ import annotations

import argparse
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from statistics import mean

import cv2
import numpy as np
from PIL import Image

from benchmarks.bench_detail import edits, unit
from benchmarks.cuts import CUTS, SPEC, photographs
from benchmarks.spoiling import Spoil, blur, tinge
from benchmarks.workloads import print_machine
from engine import EditActor, EngineConfig
from engine.quality.measures import measure
from engine.quality.repair import repair
from training.kinds import KINDS
from training.measures import psnr, shows, true_edits
from training.photographs import held_out, load_photographs, square

SIDE_PX = 256
STEPS = 8  # they lose nothing against 20 on pocket
CASTS = ((1, 0), (-1, 0), (0, 1), (0, -1))  # directions of a* and b*
# Each edit is spoiled by one of the blurs, and by one of the casts.
BLURS: list[tuple[str, Spoil]] = [
    ("blur, sigma 1% of the longest side", partial(blur, share=0.01)),
    ("blur, 2%", partial(blur, share=0.02)),
]
TINGES: list[tuple[str, Spoil]] = [
    (f"cast of {far}", partial(tinge, a=far * a, b=far * b)) for a, b in CASTS for far in (5, 8)
]


@dataclass(frozen=True)
class Edit:
    """A result, what it should be, and what an edit of nothing would have given."""

    kind: str
    result: np.ndarray  # (h, w, 3) uint8
    true: np.ndarray  # (h, w, 3) float32 in 0..1
    reference: np.ndarray  # (h, w, 3) uint8


@dataclass
class Tally:
    """What was found and done of a number of results."""

    gains: list[float] = field(default_factory=list)  # dB, of each
    repaired: list[float] = field(default_factory=list)  # dB, of those that were repaired
    warned: Counter[str] = field(default_factory=Counter)
    kinds: Counter[str] = field(default_factory=Counter)  # of those that were repaired

    def add(self, edit: Edit, result: np.ndarray) -> None:
        """Measure a result, repair it, and compare both with the true edit."""
        _, codes = measure(Image.fromarray(result), edit.reference, "fast")
        mended, done = repair(edit.reference, result, "both")
        gain = psnr(unit(mended), edit.true) - psnr(unit(result), edit.true) if done else 0.0
        self.gains.append(gain)
        self.repaired += [gain] if done else []
        self.warned.update(codes)
        self.kinds.update(f"{edit.kind} {one}" for one in done)

    def print(self, name: str) -> None:
        """Print a line."""
        if not self.gains:
            return
        of_repaired = self.repaired or [0.0]
        print(
            f"{name}: {len(self.gains)} results, {mean(self.gains):+.2f} dB; {len(self.repaired)} "
            f"repaired, {mean(of_repaired):+.2f} dB, worst {min(of_repaired):+.2f}; warned of: "
            f"{dict(self.warned)}",
            flush=True,
        )


def true(folder: Path | None) -> Iterator[Edit]:
    """Yield the true edits of held-out photographs, or of those of a folder."""
    pictures = held_out().values() if folder is None else load_photographs(folder)
    for pixels in pictures:
        source = square(pixels, SIDE_PX)
        truths = true_edits(unit(source))
        for kind in KINDS:
            if shows(kind, truths):
                result = np.round(np.clip(truths[kind], 0, 1) * 255).astype(np.uint8)
                yield Edit(kind, result, truths[kind], source)


def pockets(names: list[str]) -> Iterator[Edit]:
    """Yield what pocket makes of the same requests, on its canvas."""
    with EditActor(EngineConfig(device="cpu"), SPEC) as actor:
        for photograph in photographs(names):
            for kind, result in edits(actor, photograph, STEPS):
                true = KINDS[kind].apply(unit(photograph.canvas))
                yield Edit(kind, result, true, photograph.reconstructed)


def main() -> None:
    """See the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pocket", action="store_true", help="what the model makes")
    parser.add_argument("--photographs", type=Path, help="a folder, in place of the held-out ones")
    parser.add_argument("--cuts", nargs="+", choices=CUTS, default=list(CUTS), help="of --pocket")
    options = parser.parse_args()
    cv2.setNumThreads(1)
    print_machine(EngineConfig().threads)
    as_it_is = Tally()
    tallies: defaultdict[str, Tally] = defaultdict(Tally)
    found = pockets(options.cuts) if options.pocket else true(options.photographs)
    for number, edit in enumerate(found):
        as_it_is.add(edit, edit.result)
        where = "of a part" if KINDS[edit.kind].local else "of all"
        for spoils in (BLURS, TINGES):
            name, spoil = spoils[number % len(spoils)]
            tallies[f"{name}, edits {where}"].add(edit, spoil(edit.result))
    as_it_is.print("as they are")
    print(f"  repaired: {dict(as_it_is.kinds)}")
    for name in sorted(tallies):
        tallies[name].print(name)


if __name__ == "__main__":
    main()
