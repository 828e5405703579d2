"""Whether guidance that sets itself ends at the edit that was asked for, wherever it begins.

The freely worded requests of `training.evaluate` are edited by pocket with its own scales, with
scales that are far too strong and with some far too weak: without `auto_guidance`, and with it. An
edit is right where, of all true edits of its photograph, that of its own kind is nearest.

    python -m benchmarks.bench_auto_guidance
    python -m benchmarks.bench_auto_guidance --starts weak --ways on --each 1
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Iterator, Sequence
from statistics import mean
from typing import get_args

import numpy as np

from benchmarks.workloads import print_machine
from engine import EditActor, EditOptions, EditRequest, EditResult, EngineConfig
from engine.correction import Scales
from engine.options import AutoGuidance
from engine.registry import find_model
from training.evaluate import SIDE_PX, free_form, sources_at
from training.kinds import KINDS
from training.measures import nearest, shows, true_edits

SPEC = find_model("pocket")
STARTS = {"own": Scales.own(SPEC), "strong": Scales(8.0, 1.0), "weak": Scales(0.5, 2.5)}
WAYS = get_args(AutoGuidance)


def edited(
    actor: EditActor, kind: str, each: int, start: Scales, way: str
) -> Iterator[tuple[bool, EditResult]]:
    """Yield whether the edit of each request of a kind that shows is right, and the edit."""
    sources = sources_at(SIDE_PX)
    truths = {name: true_edits(source) for name, source in sources.items()}
    asked = [one for one in free_form(kind, each) if shows(kind, truths[one[0]])]
    options = EditOptions(
        guidance_scale=start.text, image_guidance_scale=start.image, auto_guidance=way
    )
    requests = [
        EditRequest(
            f"{kind} {i}",
            (sources[photograph] * 255).round().astype(np.uint8),
            text,
            SPEC.resolve(options, seed=i),
            digest=photograph,
        )
        for i, (photograph, _, text) in enumerate(asked)
    ]
    for outcome, (photograph, _, _) in zip(actor.edit_batch(requests), asked, strict=True):
        if not isinstance(outcome, EditResult):
            raise SystemExit(f"{outcome.id}: {outcome.message}")
        result = outcome.images[0].astype(np.float32) / 255
        yield nearest(result, kind, truths[photograph]) == kind, outcome


def main(arguments: Sequence[str] | None = None) -> None:
    """See the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--each", type=int, default=3, help="requests a kind and language")
    parser.add_argument("--kinds", nargs="+", choices=list(KINDS), default=list(KINDS))
    parser.add_argument("--starts", nargs="+", choices=list(STARTS), default=list(STARTS))
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=WAYS)
    options = parser.parse_args(arguments)
    config = EngineConfig(device="cpu")
    print_machine(config.threads)
    right: dict[tuple[str, str], int] = {}
    with EditActor(config, SPEC) as actor:
        for start in options.starts:
            for way in options.ways:
                rows = -actor.counters.branches
                made = [
                    one
                    for kind in options.kinds
                    for one in edited(actor, kind, options.each, STARTS[start], way)
                ]
                right[start, way] = sum(is_right for is_right, _ in made)
                print(f"{start} {STARTS[start]} {way}: {right[start, way]} of {len(made)} right")
                rows += actor.counters.branches
                print(f"  {rows / len(made):.1f} rows of the UNet an edit")
                print_tries([outcome for _, outcome in made])
    base = right.get(("own", "off"))
    if not base:
        return
    for (start, way), count in right.items():
        print(f"{start} {way}: {count / base:.1%} of what its own scales get right")


def print_tries(outcomes: Sequence[EditResult]) -> None:
    """Print how many tries there were."""
    guided = [outcome.guided for outcome in outcomes if outcome.guided is not None]
    if guided:
        counts = Counter(one.tries for one in guided)
        print(f"  tries {mean(one.tries for one in guided):.2f}: {dict(sorted(counts.items()))}")


if __name__ == "__main__":
    main()
