"""Whether an edit is still the one that was asked for, once it is finished.

The freely worded requests of `training.evaluate` are edited on pocket's canvas. An edit is right
where, of all true edits of its photograph, that of its own kind is nearest; it is judged as the
model made it, with `detail: source`, and with `preserve: auto` beside that.

    python -m benchmarks.bench_right
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np
from PIL import Image

from benchmarks.workloads import print_machine
from engine import EditActor, EditOptions, EditRequest, EditResult, EngineConfig
from engine.finishing import Canvases, Wanted, finish
from engine.geometry import plan_geometry
from engine.registry import find_model
from training.evaluate import DEFAULTS, SIDE_PX, free_form, sources_at
from training.kinds import KINDS
from training.measures import nearest, shows, true_edits

SPEC = find_model("pocket")
WAYS = {
    "the model's picture": Wanted(),
    "detail": Wanted(detail=True),
    "detail, preserve": Wanted(detail=True, preserve=True),
}


def right_ways(actor: EditActor, kind: str, each: int) -> Iterator[set[str]]:
    """Yield, for each request of a kind that shows, the ways in which its result is right."""
    sources = sources_at(SIDE_PX)
    asked = [one for one in free_form(kind, each) if shows(kind, true_edits(sources[one[0]]))]
    requests = [
        EditRequest(
            f"{kind} {i}",
            (sources[photograph] * 255).round().astype(np.uint8),
            text,
            SPEC.resolve(EditOptions(num_inference_steps=DEFAULTS.steps), seed=i),
            digest=photograph,
        )
        for i, (photograph, _, text) in enumerate(asked)
    ]
    outcomes = actor.edit_batch(requests)
    for request, outcome, (photograph, _, _) in zip(requests, outcomes, asked, strict=True):
        if not isinstance(outcome, EditResult) or outcome.reconstructed is None:
            raise SystemExit(f"{request.id}: {outcome}")
        canvases = Canvases(request.pixels, outcome.reconstructed, outcome.images[0])
        truths = true_edits(sources[photograph])
        yield {name for name, way in WAYS.items() if _is_right(canvases, way, kind, truths)}


def _is_right(canvases: Canvases, wanted: Wanted, kind: str, truths: dict[str, np.ndarray]) -> bool:
    side = (SIDE_PX, SIDE_PX)
    geometry = plan_geometry(side, EditOptions(), SPEC)
    finished = finish(canvases, Image.fromarray(canvases.source), geometry, wanted)
    return nearest(finished.pixels.astype(np.float32) / np.float32(255), kind, truths) == kind


def main(arguments: Sequence[str] | None = None) -> None:
    """See the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--each", type=int, default=3, help="requests a kind and language")
    parser.add_argument("--kinds", nargs="+", choices=list(KINDS), default=list(KINDS))
    options = parser.parse_args(arguments)
    config = EngineConfig(device="cpu")
    print_machine(config.threads)
    count, right = 0, Counter[str]()
    with EditActor(config, SPEC) as actor:
        for kind in options.kinds:
            ways = list(right_ways(actor, kind, options.each))
            here = Counter(name for found in ways for name in found)
            print(kind, len(ways), {name: here[name] for name in WAYS}, flush=True)
            count, right = count + len(ways), right + here
    for name in WAYS:
        print(f"{name}: {right[name]} of {count} right")


if __name__ == "__main__":
    main()
