"""Edit one photograph with the engine alone: no Ray, no server.

python examples/edit_in_python.py photo.jpg "make it night" edited.png
"""

import sys
from pathlib import Path

from engine import EditActor, EditFailure, EditOptions, EngineConfig, prepare
from engine.geometry import from_canvas
from engine.images import encode


def main(source: str, instruction: str, output: str) -> None:
    with EditActor(EngineConfig(model="pocket")) as actor:
        options = actor.spec.resolve(EditOptions(num_inference_steps=20), seed=7)
        edit = prepare("1", Path(source).read_bytes(), instruction, options, actor.spec)
        (outcome,) = actor.edit_batch([edit.request])
    if isinstance(outcome, EditFailure):
        sys.exit(f"{outcome.code}: {outcome.message}")
    Path(output).write_bytes(encode(from_canvas(outcome.images[0], edit.geometry)))


if __name__ == "__main__":
    main(*sys.argv[1:4])
