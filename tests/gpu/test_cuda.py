"""What only a GPU can show; skipped where there is none. Needs torch and diffusers, no Ray."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch

from engine import EditActor, EngineConfig
from engine.capacity import Capacity
from engine.config import Quantization, TextEncoderPlace
from engine.edit import EditResult
from engine.loading import load_model
from engine.loop import DenoiseLoop
from engine.models.quantization import PACKAGES
from engine.registry import find_model
from engine.sources import Prepared
from engine.spec import ModelSpec
from tests.engine.families import FAMILIES, Family, edits_of, request_of
from tests.engine.test_loop import mixed_requests, pixels, run
from tests.engine.test_quantization import linear_bytes
from tests.engine.test_text_encoder import encoders_of

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="torch finds no GPU here")

EditOf = Callable[..., Prepared]


@pytest.fixture
def gpu_pocket() -> ModelSpec:
    return find_model("pocket", resolution=128)


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_a_gpu_draws_the_picture_of_the_cpu(
    edit_of: EditOf, gpu_pocket: ModelSpec, dtype: str
) -> None:
    request = edit_of("coffee", "make it night", spec=gpu_pocket, seed=7).request
    with EditActor(EngineConfig(device="cpu"), gpu_pocket) as cpu:
        expected = cpu.edit_batch([request])[0]
    with EditActor(EngineConfig(device="cuda", dtype=dtype), gpu_pocket) as gpu:
        edited = gpu.edit_batch([request])[0]
    assert isinstance(expected, EditResult) and isinstance(edited, EditResult)
    difference = np.abs(expected.images[0].astype(int) - edited.images[0].astype(int))
    assert difference.mean() < (0.5 if dtype == "float32" else 8)


@pytest.mark.parametrize("family", FAMILIES, ids=str)
def test_text_encoders_leave_the_gpu_to_the_rest(
    family: Family, tiny: Callable[[str], Path]
) -> None:
    """Swapped in a layer at a time they give the bytes that they give when they stay."""
    spec = find_model(str(tiny(family.name)))
    request = request_of(spec, edits_of(family)[1])
    pictures = {}
    for place in get_args(TextEncoderPlace):
        config = EngineConfig(device="cuda", dtype="float32", text_encoder=place)
        editor = load_model(spec, config).editor
        pictures[place] = pixels(run(DenoiseLoop(editor, Capacity(8)), [request])["edit"])
        for encoder in encoders_of(editor):
            kinds = {weight.device.type for weight in encoder.model.parameters()}
            assert kinds == {"cuda" if place == "device" else "cpu"}
    assert pictures["swap"] == pictures["device"]


@pytest.mark.parametrize("quantization", PACKAGES)
def test_quantised_weights_leave_the_gpu_to_samples(
    quantization: Quantization, tiny: Callable[[str], Path]
) -> None:
    """And strict keeps its bytes in company."""
    pytest.importorskip(PACKAGES[quantization])
    family = next(family for family in FAMILIES if family.name == "flux-kontext")
    spec = find_model(str(tiny(family.name)))
    config = EngineConfig(device="cuda", dtype="bfloat16")
    plain = load_model(spec, config).editor
    config = config.model_copy(update={"quantization": quantization})
    editor = load_model(spec, config).editor
    assert linear_bytes(editor) < 0.8 * linear_bytes(plain)
    request = request_of(spec, edits_of(family)[1])
    others = [replace(request, id=id) for id in "abc"]
    loop = DenoiseLoop(editor, Capacity(4), determinism="strict")
    alone = pixels(run(loop, [request])["edit"])
    assert pixels(run(loop, [*others, request])["edit"]) == alone


@pytest.mark.parametrize("cuda_graphs", [False, True])
def test_strict_is_bitwise_over_200_random_batches(
    edit_of: EditOf, gpu_pocket: ModelSpec, cuda_graphs: bool
) -> None:
    requests = mixed_requests(edit_of, 20, seed=1, spec=gpu_pocket)
    config = EngineConfig(device="cuda", determinism="strict", cuda_graphs=cuda_graphs)
    with EditActor(config, gpu_pocket) as actor:
        alone = {r.id: pixels(actor.edit_batch([r])[0]) for r in requests}
        draw = random.Random(0)
        for _ in range(200):
            batch = draw.sample(requests, draw.randint(2, 8))
            for request, outcome in zip(batch, actor.edit_batch(batch), strict=True):
                assert pixels(outcome) == alone[request.id]


def test_a_replayed_graph_makes_the_bytes_of_the_step_that_it_captured(
    edit_of: EditOf, gpu_pocket: ModelSpec
) -> None:
    """Padded to the same bucket, so that both run the same kernels; mixed samplers and steps, so
    that one graph is replayed for other rows and at other steps."""
    requests = mixed_requests(edit_of, 12, seed=2, spec=gpu_pocket)
    editor = load_model(gpu_pocket, EngineConfig(device="cuda")).editor
    outcomes = []
    for cuda_graphs in (False, True):
        loop = DenoiseLoop(editor, Capacity(4), determinism="bucket", cuda_graphs=cuda_graphs)
        outcomes.append({id: pixels(outcome) for id, outcome in run(loop, requests).items()})
    assert outcomes[0] == outcomes[1]


@pytest.mark.parametrize("setting", ["channels_last", "cuda_graphs"])
def test_the_fast_path_draws_the_same_picture(
    edit_of: EditOf, gpu_pocket: ModelSpec, setting: str
) -> None:
    request = edit_of("coffee", "make it night", spec=gpu_pocket, seed=7).request
    images = []
    for settings in ({}, {setting: True}):
        with EditActor(EngineConfig(device="cuda", **settings), gpu_pocket) as actor:
            (outcome,) = actor.edit_batch([request])
        assert isinstance(outcome, EditResult)
        images.append(outcome.images[0].astype(int))
    assert np.abs(images[0] - images[1]).mean() < 2


def test_a_full_memory_halves_the_batch_and_loses_no_edit(
    edit_of: EditOf, gpu_pocket: ModelSpec
) -> None:
    large = replace(gpu_pocket, resolution=512)
    requests = [
        edit_of("coffee", "add fog", id=str(i), spec=large, num_inference_steps=2).request
        for i in range(16)
    ]
    editor = load_model(large, EngineConfig(device="cuda")).editor
    run(DenoiseLoop(editor, Capacity(1)), requests[:1])
    torch.cuda.empty_cache()
    loop = DenoiseLoop(editor, Capacity(16))  # with no eye on the memory
    free, _ = torch.cuda.mem_get_info()
    hog = torch.empty(max(free - 600 * 2**20, 0), dtype=torch.uint8, device="cuda")
    outcomes = run(loop, requests)
    del hog
    assert all(isinstance(outcome, EditResult) for outcome in outcomes.values())
    assert loop.counters.out_of_memory >= 1
