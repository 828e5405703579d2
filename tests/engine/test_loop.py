"""Samples share steps without sharing fate: bytes, faults and cancellation stay their own."""

from __future__ import annotations

import hashlib
import itertools
import json
import random
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from engine import EditActor, EditOptions, EngineConfig, EngineError
from engine.capacity import Capacity
from engine.edit import EditFailure, EditOutcome, EditRequest, EditResult
from engine.errors import ModelError
from engine.loading import load_model
from engine.loop import DenoiseLoop
from engine.options import Determinism
from engine.packing import BUCKETS
from engine.registry import find_model
from engine.seeding import image_seed, row_seed
from engine.sources import Prepared
from engine.spec import ModelSpec
from engine.weights import LOCK, verify_weights
from tests.editors import faulty

EditOf = Callable[..., Prepared]


def run(loop: DenoiseLoop, requests: list[EditRequest]) -> dict[str, EditOutcome]:
    for request in requests:
        loop.admit(request)
    outcomes: dict[str, EditOutcome] = {}
    while not loop.idle:
        for outcome in loop.step():
            assert outcome.id not in outcomes
            outcomes[outcome.id] = outcome
    return outcomes


def pixels(outcome: EditOutcome) -> list[bytes]:
    assert isinstance(outcome, EditResult), outcome
    return [image.tobytes() for image in outcome.images]


def make_loop(
    spec: ModelSpec, determinism: Determinism = "seeded", max_batch_size: int = 4
) -> DenoiseLoop:
    editor = load_model(spec, EngineConfig()).editor
    return DenoiseLoop(editor, Capacity(max_batch_size), determinism=determinism)


def mixed_requests(edit_of: EditOf, count: int, seed: int, **settings: object) -> list[EditRequest]:
    """Requests that differ in everything that a request can differ in."""
    draw = random.Random(seed)
    return [
        edit_of(
            draw.choice(["coffee", "chelsea", "astronaut"]),
            draw.choice(["make it night", "make it blue", "add fog"]),
            id=f"{seed}-{i}",
            seed=draw.randrange(2**32),
            scheduler=draw.choice(["ddim", "euler", "euler_ancestral"]),
            num_inference_steps=draw.randint(2, 6),
            guidance_scale=draw.choice([1.3, 3.0, 7.5]),
            image_guidance_scale=draw.choice([1.0, 1.3]),
            num_images=draw.choice([1, 1, 2]),
            **settings,
        ).request
        for i in range(count)
    ]


def test_in_strict_an_edit_is_the_same_bytes_alone_and_in_company(
    edit_of: EditOf, pocket: ModelSpec
) -> None:
    loop = make_loop(pocket, "strict")
    requests = mixed_requests(edit_of, 4, seed=1)
    alone = {request.id: run(loop, [request])[request.id] for request in requests}
    together = run(loop, requests)
    for request in requests:
        assert pixels(together[request.id]) == pixels(alone[request.id])
    random.Random(2).shuffle(requests)
    shuffled = run(make_loop(pocket, "strict", max_batch_size=2), requests)
    for request in requests:
        assert pixels(shuffled[request.id]) == pixels(alone[request.id])


def test_in_one_bucket_neighbours_and_position_do_not_change_a_byte(
    edit_of: EditOf, pocket: ModelSpec
) -> None:
    """Neighbours of 2 and of 3 rows fill the bucket of 12 with 9 to 12."""
    subject = edit_of("coffee", "make it night", num_inference_steps=4, seed=3).request
    seen, padded = set(), set()
    for turn, scales in enumerate(((1.0, 1.0, 1.0), (1.0, 1.3, 1.3), (1.3, 1.3, 1.3))):
        others = [
            edit_of(
                "coffee",
                "add fog",
                id=f"n{i}",
                num_inference_steps=4,
                seed=turn * 10 + i,
                image_guidance_scale=scale,
            ).request
            for i, scale in enumerate(scales)
        ]
        requests = [*others[:turn], subject, *others[turn:]]
        loop = make_loop(pocket, "bucket")
        seen.add(state_of(loop, requests, subject.id))
        padded.add(loop.counters.branches_padded)
        assert loop.counters.branches + loop.counters.branches_padded == 3 * 12
    assert len(seen) == 1
    assert padded == {3 * 3, 3 * 1, 0}


def state_of(loop: DenoiseLoop, requests: list[EditRequest], id: str) -> bytes:
    """The latents of a request after three shared steps, bit by bit."""
    for request in requests:
        loop.admit(request)
    for _ in range(3):
        loop.step()
    (live,) = [live for live in loop._running if live.request.id == id]
    return live.samples[0].state.numpy().tobytes()


def test_a_nan_neighbour_does_not_change_a_byte(edit_of: EditOf, pocket: ModelSpec) -> None:
    subject = edit_of("coffee", "make it night", num_inference_steps=3).request
    calm = edit_of("coffee", "make it blue", id="b", num_inference_steps=3).request
    wild = edit_of("coffee", "nan in encode", id="b", num_inference_steps=3).request
    loop = make_loop(faulty(pocket), "strict")
    expected = pixels(run(loop, [subject, calm])[subject.id])
    outcomes = run(loop, [subject, wild])
    assert pixels(outcomes[subject.id]) == expected
    failure = outcomes["b"]
    assert isinstance(failure, EditFailure) and failure.code == "non_finite"


def test_a_bad_request_does_not_fail_its_neighbours(edit_of: EditOf, pocket: ModelSpec) -> None:
    for place in range(4):
        requests = [
            edit_of("coffee", "make it night", id=f"{i}", seed=i, num_inference_steps=2).request
            for i in range(4)
        ]
        bad = ("fail in encode", "nan in encode")[place % 2]
        requests[place] = edit_of("coffee", bad, id="bad", num_inference_steps=2).request
        outcomes = run(make_loop(faulty(pocket)), requests)
        assert len(outcomes) == 4
        assert [o.id for o in outcomes.values() if isinstance(o, EditFailure)] == ["bad"]


def test_lanes_of_different_shapes_do_not_starve_each_other(
    edit_of: EditOf, pocket: ModelSpec
) -> None:
    wide = edit_of("coffee", "make it night", id="wide", num_inference_steps=3).request
    loop = make_loop(pocket, max_batch_size=2)
    loop.admit(wide)
    order = []
    for i in range(40):  # an endless stream of squares, one a step
        loop.admit(edit_of("astronaut", "add fog", id=f"square-{i}", num_inference_steps=2).request)
        order += [outcome.id for outcome in loop.step()]
        if "wide" in order:
            break
    assert "wide" in order[:2]


def test_a_cancelled_request_stops_being_computed(edit_of: EditOf, pocket: ModelSpec) -> None:
    loop = make_loop(pocket)
    for name in ("stay", "go"):
        loop.admit(edit_of("coffee", "make it night", id=name, num_inference_steps=6).request)
    loop.step()
    branches = loop.counters.branches
    (gone,) = loop.cancel({"go"})
    assert isinstance(gone, EditFailure) and gone.code == "cancelled"
    outcomes = {outcome.id: outcome for _ in range(5) for outcome in loop.step()}
    assert list(outcomes) == ["stay"] and loop.idle
    assert loop.counters.branches - branches == 5 * 3


def test_branches_whose_weight_is_zero_are_not_computed(edit_of: EditOf, pocket: ModelSpec) -> None:
    def computed(**scales: float) -> int:
        loop = make_loop(pocket)
        run(loop, [edit_of("coffee", "make it night", num_inference_steps=1, **scales).request])
        return loop.counters.branches

    assert computed(guidance_scale=7.5, image_guidance_scale=1.5) == 3
    assert computed(guidance_scale=1.0, image_guidance_scale=1.5) == 3
    assert computed(guidance_scale=7.5, image_guidance_scale=1.0) == 2
    assert computed(guidance_scale=1.5, image_guidance_scale=1.5) == 2
    assert computed(guidance_scale=0.0, image_guidance_scale=1.5) == 2
    assert computed(guidance_scale=1.0, image_guidance_scale=1.0) == 1


def test_bucket_padding_is_counted(edit_of: EditOf, pocket: ModelSpec) -> None:
    loop = make_loop(pocket, "bucket")
    requests = [
        edit_of("coffee", "add fog", id=str(i), num_inference_steps=1).request for i in range(3)
    ]
    run(loop, requests)
    assert (loop.counters.branches, loop.counters.branches_padded) == (9, 3)
    assert all(wide <= 1.5 * narrow or narrow < 3 for narrow, wide in itertools.pairwise(BUCKETS))


def test_the_same_seed_is_the_same_picture_and_another_seed_is_another(
    edit_of: EditOf, strict_actor: EditActor
) -> None:
    def picture(seed: int, **options: object) -> list[bytes]:
        request = edit_of("coffee", "add fog", num_inference_steps=4, seed=seed, **options).request
        return pixels(strict_actor.edit_batch([request])[0])

    assert picture(7) == picture(7)
    assert picture(7) != picture(8)
    pair = picture(7, num_images=2)
    assert pair[0] == picture(7)[0]
    assert pair[1] == picture(image_seed(7, 1))[0]


def test_seeds_of_rows_depend_on_job_and_id_alone() -> None:
    assert row_seed(1, "a") == row_seed(1, "a")
    assert len({row_seed(job, id) for job in range(10) for id in "abcdef"}) == 60
    assert image_seed(5, 0) == 5


def test_what_the_model_cannot_do_is_refused_before_it_runs(
    edit_of: EditOf, strict_actor: EditActor
) -> None:
    def failure(**options: object) -> EditFailure:
        text = str(options.pop("instruction", "add fog"))
        outcome = strict_actor.edit_batch([edit_of("coffee", text, **options).request])[0]
        assert isinstance(outcome, EditFailure)
        return outcome

    assert failure(instruction="very long " * 190).code == "instruction_too_long"
    assert failure(negative_prompt="very long " * 190).param == "negative_prompt"
    assert failure(instruction="сделай ночь", strict_language=True).code == "instruction_language"
    outcome = strict_actor.edit_batch([edit_of("coffee", "ночь", num_inference_steps=1).request])[0]
    assert isinstance(outcome, EditResult) and "language_unsupported" in outcome.warnings


def test_outcomes_come_in_order_and_mates_finish_independently(
    edit_of: EditOf, strict_actor: EditActor
) -> None:
    plans = [("long", 12), ("short", 2)]
    requests = [
        edit_of("coffee", "add fog", id=id, num_inference_steps=steps).request
        for id, steps in plans
    ]
    futures = strict_actor.submit(requests)
    assert futures[1].result(timeout=60).id == "short"
    assert not futures[0].done()
    assert futures[0].result(timeout=60).id == "long"


def test_a_closed_actor_refuses_and_a_running_edit_is_finished(
    edit_of: EditOf, pocket: ModelSpec
) -> None:
    actor = EditActor(EngineConfig(), pocket)
    request = edit_of("coffee", "add fog", num_inference_steps=3).request
    (future,) = actor.submit([request])
    actor.close()
    assert isinstance(future.result(timeout=1), EditResult)
    (refused,) = actor.edit_batch([request])
    assert isinstance(refused, EditFailure) and refused.code == "not_ready" and refused.retryable


def test_damaged_weights_are_refused(pocket: ModelSpec, tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="no safetensors"):
        load_model(replace(pocket, source=str(tmp_path)), EngineConfig())
    folder = tmp_path / "pocket"
    shutil.copytree(pocket.source, folder)
    weights = folder / "unet" / "diffusion_pytorch_model.safetensors"
    digest = hashlib.sha256(weights.read_bytes()).hexdigest()
    (folder / LOCK).write_text(json.dumps({str(weights.relative_to(folder)): digest}))
    verify_weights.cache_clear()
    load_model(replace(pocket, source=str(folder)), EngineConfig())
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    verify_weights.cache_clear()
    with pytest.raises(EngineError, match=r"is damaged \(its sha256 differs\)"):
        load_model(replace(pocket, source=str(folder)), EngineConfig())
    weights.unlink()
    verify_weights.cache_clear()
    with pytest.raises(EngineError, match="is missing"):
        load_model(replace(pocket, source=str(folder)), EngineConfig())


@pytest.mark.parametrize("family", ["instruct-pix2pix", "flux-kontext", "dreamlite"])
def test_a_half_fetched_model_is_said_by_its_file(
    tiny: Callable[[str], Path], tmp_path: Path, family: str
) -> None:
    """Whatever reads it: diffusers, transformers or safetensors itself, each with its own words."""
    for index, file in enumerate(sorted(tiny(family).rglob("*.safetensors"))):
        folder = tmp_path / str(index)
        shutil.copytree(tiny(family), folder)
        spec = find_model(str(folder))
        cut = folder / file.relative_to(tiny(family))
        whole = cut.read_bytes()
        cut.write_bytes(whole[: len(whole) // 2])
        said = rf"from {folder}: {cut} is damaged, or no safetensors file .*fetch it again"
        with pytest.raises(ModelError, match=said):
            load_model(spec, EngineConfig())
        cut.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n")
        verify_weights.cache_clear()
        with pytest.raises(ModelError, match=rf"{cut} is Git LFS' pointer .*git lfs pull"):
            load_model(spec, EngineConfig())


def test_noise_is_that_of_a_diffusers_generator() -> None:
    import torch

    from engine.seeding import NoiseSource

    source = NoiseSource(7, (4, 8, 8))
    generator = torch.Generator("cpu").manual_seed(7)
    for _ in range(3):
        assert torch.equal(source.draw()[None], torch.randn((1, 4, 8, 8), generator=generator))


def test_options_resolve_to_the_models_defaults(pocket: ModelSpec) -> None:
    options = pocket.resolve(EditOptions(guidance_scale=2.0), seed=5)
    assert (options.guidance_scale, options.image_guidance_scale, options.seed) == (2.0, 1.3, 5)
    assert np.isfinite(options.num_inference_steps or np.nan)


def test_quality_is_steps_by_the_models_own_and_steps_that_are_given_go_before_it(
    pocket: ModelSpec,
) -> None:
    def steps(**options: object) -> int:
        return pocket.resolve(EditOptions.parse(options), seed=0).num_inference_steps

    own = pocket.defaults["num_inference_steps"]
    assert [steps(quality=name) for name in ("low", "medium", "auto", "high")] == [
        own // 2,
        own,
        own,
        own * 3 // 2,
    ]
    assert steps(quality="high", num_inference_steps=3) == 3
    distilled = replace(pocket, defaults={**pocket.defaults, "num_inference_steps": 1})
    assert distilled.resolve(EditOptions(quality="low"), seed=0).num_inference_steps == 1
    slow = replace(pocket, defaults={**pocket.defaults, "num_inference_steps": 80})
    assert slow.resolve(EditOptions(quality="high"), seed=0).num_inference_steps == 100
