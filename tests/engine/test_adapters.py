"""Many styles on one model: each edit is what it is alone, whoever runs beside it."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from diffusers.loaders import StableDiffusionLoraLoaderMixin

from engine.adapter import Adapter, find_adapter
from engine.adapters import Adapters
from engine.capacity import Capacity
from engine.edit import EditFailure, EditRequest
from engine.lane import Lane
from engine.loop import DenoiseLoop
from engine.options import Determinism
from tests.engine.families import FAMILIES, Twins, edits_of, one_thread
from tests.engine.test_loop import pixels, run
from tests.tiny import lora

SCALES = (1.0, 0.5, 1.5)
Loop = Callable[..., DenoiseLoop]


@pytest.fixture(scope="module")
def twins(tiny: Callable[[str], Path]) -> Iterator[Twins]:
    with one_thread():
        yield Twins(FAMILIES[0], tiny(FAMILIES[0].name))


@pytest.fixture(scope="module")
def adapters(twins: Twins, tmp_path_factory: pytest.TempPathFactory) -> list[Adapter]:
    """Four styles of one model, the last in kohya's layout."""
    folder, unet = tmp_path_factory.mktemp("styles"), twins.editor.denoiser  # type: ignore[attr-defined]
    found = []
    for seed in range(4):
        weights = lora.halves(unet, seed)
        tensors = lora.as_kohya(weights) if seed == 3 else lora.as_peft("unet", weights)
        found.append(find_adapter(str(seed), lora.save(folder / f"{seed}.safetensors", tensors)))
    return found


@pytest.fixture
def loop_of(twins: Twins) -> Loop:
    def make(determinism: Determinism = "strict", samples: int = 4, **settings: Any) -> DenoiseLoop:
        held = Adapters(twins.editor, **settings)
        return DenoiseLoop(twins.editor, Capacity(samples), determinism=determinism, adapters=held)

    return make


def request(
    twins: Twins, adapter: Adapter | None, *, id: str = "it", scale: float = 1.0, seed: int = 7
) -> EditRequest:
    """An edit of two to four steps."""
    edit = edits_of(FAMILIES[0])[seed % 2 * 3]
    options = {**edit.options, "num_inference_steps": 2 + seed % 3}
    made = twins.request(replace(edit, seed=seed, options=options), id)
    scaled = made.options.model_copy(update={"lora_scale": scale})
    return replace(made, adapter=adapter, options=scaled)


@pytest.mark.slow
@pytest.mark.parametrize("count", [40, pytest.param(200, marks=pytest.mark.chaos)])
def test_of_four_styles_at_once_mixed_edits_are_each_what_they_are_alone(
    twins: Twins, adapters: list[Adapter], loop_of: Loop, count: int
) -> None:
    kinds = [
        request(twins, adapter, seed=seed, scale=SCALES[seed % 3])
        for seed in range(6)
        for adapter in (*adapters, None)
    ]
    alone = [pixels(run(loop_of(), [kind])["it"]) for kind in kinds]
    assert len({image for images in alone for image in images}) == len(kinds)
    draw = random.Random(3)
    which = [draw.randrange(len(kinds)) for _ in range(count)]
    requests = [replace(kinds[k], id=str(i)) for i, k in enumerate(which)]
    together = run(loop_of(), requests)
    for i, k in enumerate(which):
        assert pixels(together[str(i)]) == alone[k]


def test_styled_edits_beside_a_base_one_change_no_byte_of_it_nor_it_of_theirs(
    twins: Twins, adapters: list[Adapter], loop_of: Loop
) -> None:
    kinds = [request(twins, adapter, id=str(i)) for i, adapter in enumerate((None, *adapters))]
    bare = DenoiseLoop(twins.editor, Capacity(4), determinism="strict")
    alone = {kind.id: pixels(run(loop_of(), [kind])[kind.id]) for kind in kinds}
    assert alone["0"] == pixels(run(bare, [kinds[0]])["0"])
    assert len({images[0] for images in alone.values()}) == len(kinds)
    for order in (kinds, kinds[::-1]):
        together = run(loop_of(), order)
        assert {id: pixels(outcome) for id, outcome in together.items()} == alone


def test_in_bucket_neighbours_at_other_scales_change_no_byte(
    twins: Twins, adapters: list[Adapter], loop_of: Loop
) -> None:
    subject = request(twins, adapters[0], scale=0.7)
    seen = set()
    for scale in (0.0, 1.9):
        others = [
            request(twins, adapters[0], id=str(i), seed=7 + 6 * i, scale=scale) for i in range(3)
        ]
        loop = loop_of("bucket")
        seen.add(pixels(run(loop, [*others, subject])["it"])[0])
    assert len(seen) == 1
    assert loop.counters.branches == 4 * loop.counters.calls  # all are in each call


def test_four_styles_need_the_model_calls_of_one_and_a_switch_for_each_batch(
    twins: Twins, adapters: list[Adapter]
) -> None:
    """Not step by step in turn: 16 edits, which come in turn, are four full batches."""
    calls = []
    for styles in (adapters[:1], adapters):
        held = Adapters(twins.editor)
        loop = DenoiseLoop(twins.editor, Capacity(4), adapters=held)
        mixed = [styles[i % len(styles)] for i in range(16)]
        run(loop, [request(twins, a, id=str(i), seed=1 + 6 * i) for i, a in enumerate(mixed)])
        assert held.switches == len(styles) + 1  # and back to the base
        calls.append(loop.counters.calls)
    assert calls[0] == calls[1]


def test_what_was_used_longest_ago_leaves_and_is_read_again(
    twins: Twins, adapters: list[Adapter], loop_of: Loop, tmp_path: Path
) -> None:
    """Two fit. The files go once they are read: what is kept needs none."""
    moved = []
    for adapter in adapters[:3]:
        file = tmp_path / Path(adapter.path).name
        file.write_bytes(Path(adapter.path).read_bytes())
        moved.append(find_adapter(adapter.name, file))
    size = Adapters(twins.editor).hold(moved[0]).nbytes
    loop = loop_of(max_bytes=2 * size)

    def outcome(adapter: Adapter) -> object:
        return run(loop, [request(twins, adapter)])["it"]

    first = pixels(outcome(moved[0]))  # type: ignore[arg-type]
    outcome(moved[1])
    for adapter in moved[:2]:
        Path(adapter.path).unlink()
    assert pixels(outcome(moved[0])) == first  # type: ignore[arg-type]
    outcome(moved[2])
    gone = outcome(moved[1])
    assert isinstance(gone, EditFailure) and gone.code == "adapter_unusable"
    assert pixels(outcome(moved[0])) == first  # type: ignore[arg-type]


@pytest.fixture
def slow_reader(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """diffusers reads kohya's files, which takes until the event is set."""
    go = threading.Event()
    read = StableDiffusionLoraLoaderMixin.lora_state_dict

    def slowly(*arguments: Any, **settings: Any) -> Any:
        assert go.wait(60)
        return read(*arguments, **settings)

    monkeypatch.setattr(StableDiffusionLoraLoaderMixin, "lora_state_dict", slowly)
    return go


def test_while_a_file_is_read_the_batch_goes_on_and_its_edits_join_at_a_step(
    twins: Twins, adapters: list[Adapter], loop_of: Loop, slow_reader: threading.Event
) -> None:
    loop = loop_of(beside=True)
    base, styled = request(twins, None, id="base"), request(twins, adapters[3], id="styled")
    loop.admit(styled)
    loop.admit(base)
    done: dict[str, Any] = {}
    while "base" not in done:
        done |= {outcome.id: outcome for outcome in loop.step()}
    assert "styled" not in done
    assert loop.step() == [] and not loop.idle  # nothing can be done: it waits a moment
    slow_reader.set()
    while not loop.idle:
        done |= {outcome.id: outcome for outcome in loop.step()}
    for kind in (base, styled):
        assert pixels(done[kind.id]) == pixels(run(loop_of(), [kind])[kind.id])


def test_an_edit_that_waits_for_its_file_can_be_cancelled(
    twins: Twins, adapters: list[Adapter], loop_of: Loop, slow_reader: threading.Event
) -> None:
    loop = loop_of(beside=True)
    loop.admit(request(twins, adapters[3]))
    loop.step()
    (outcome,) = loop.cancel({"it"})
    assert isinstance(outcome, EditFailure) and outcome.code == "cancelled"
    assert loop.idle
    slow_reader.set()


@pytest.mark.parametrize("beside", [False, True])
def test_a_file_that_was_spoilt_fails_its_own_edits_and_no_other(
    twins: Twins, adapters: list[Adapter], loop_of: Loop, tmp_path: Path, beside: bool
) -> None:
    file = tmp_path / "spoilt.safetensors"
    file.write_bytes(Path(adapters[0].path).read_bytes())
    spoilt = find_adapter("spoilt", file)
    file.write_bytes(file.read_bytes()[:-1] + b"\1")
    styles = {"a": spoilt, "b": adapters[1], "c": spoilt, "d": None}
    requests = [request(twins, adapter, id=id) for id, adapter in styles.items()]
    outcomes = run(loop_of(beside=beside), requests)
    for id in ("a", "c"):
        failure = outcomes[id]
        assert isinstance(failure, EditFailure)
        assert (failure.code, failure.status, failure.param) == ("adapter_unusable", 500, "style")
        assert "style spoilt: the LoRA spoilt.safetensors has changed" in failure.message
    for id in ("b", "d"):
        alone = run(loop_of(), [request(twins, styles[id], id=id)])[id]
        assert pixels(outcomes[id]) == pixels(alone)


def test_a_style_has_a_lane_of_its_own_and_the_capacity_of_its_shape(
    twins: Twins, adapters: list[Adapter]
) -> None:
    lanes = [Lane.of(request(twins, adapter)) for adapter in (None, *adapters)]
    assert len(set(lanes)) == 5
    assert len({lane.shape for lane in lanes}) == 1
    capacity = Capacity(8)
    capacity.shrink(lanes[1], 2)
    assert capacity.samples(lanes[2]) == 2
