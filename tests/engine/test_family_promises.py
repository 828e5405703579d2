"""Every family: what the loop promises holds whatever a model reads, and however it guides."""

from __future__ import annotations

import copy
import itertools
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch

from engine.capacity import Capacity
from engine.edit import EditFailure, EditRequest, EditResult
from engine.loop import DenoiseLoop, Watcher
from engine.models import Conditioning, Editor
from engine.options import Determinism
from tests.engine.company import in_random_company
from tests.engine.families import (
    INSTRUCTIONS,
    Twins,
    check_same,
    one_thread,
)
from tests.engine.test_loop import run
from tests.tiny.edits import Edit

SAMPLES = 3
ROWS_THAT_FIT = 3


@pytest.fixture(autouse=True)
def threads() -> Iterator[None]:
    with one_thread():
        yield


def changed(editor: Editor, **methods: Callable[..., Any]) -> Editor:
    """The same model with other methods, each given the old one first."""
    other = copy.copy(editor)
    for name, method in methods.items():
        setattr(other, name, partial(method, getattr(editor, name)))
    return other


def poison(
    encode: Callable[..., list[Conditioning]], requests: Sequence[EditRequest]
) -> list[Conditioning]:
    """Everything that the model reads of a request with "poison" in its id is NaN."""

    def spoilt(conditioning: Conditioning) -> Conditioning:
        rows = [
            {n: t * torch.nan if t.is_floating_point() else t for n, t in row.items()}
            for row in conditioning.rows
        ]
        return replace(conditioning, rows=rows)

    return [
        spoilt(conditioning) if "poison" in request.id else conditioning
        for request, conditioning in zip(requests, encode(requests), strict=True)
    ]


def neighbours_of(twins: Twins, canvas: Edit, seed: int) -> Iterator[EditRequest]:
    """Guided edits on one canvas, every other one poison."""
    draw = random.Random(seed)
    for i in itertools.count():
        options = {**(twins.family.guided or twins.family.plain), "num_inference_steps": i % 4 + 2}
        edit = replace(canvas, instruction=draw.choice(INSTRUCTIONS), seed=i, options=options)
        yield twins.request(edit, f"{draw.choice(['poison', 'neighbour'])}-{i}")


@pytest.mark.parametrize("determinism", ["bucket", "strict"])
def test_random_neighbours_cancelled_and_poisoned_change_no_byte(
    twins: Twins, determinism: Determinism
) -> None:
    edit = twins.edits[1]
    subject = twins.request(edit, "subject")
    editor = changed(twins.editor, encode=poison)
    loop = DenoiseLoop(editor, Capacity(SAMPLES), determinism=determinism)
    seen = {
        in_random_company(
            loop, subject, neighbours_of(twins, edit, seed), samples=SAMPLES, seed=seed
        )
        for seed in range(3)
    }
    assert len(seen) == 1
    if determinism == "strict":
        assert seen == {twins.alone[1].pixels.tobytes()}


def test_poison_fails_alone(twins: Twins) -> None:
    loop = twins.loop(changed(twins.editor, encode=poison))
    edits = twins.edits[:2]
    requests = [twins.request(edits[0], "poison"), twins.request(edits[1], "calm")]
    outcomes = run(loop, requests)
    failure, calm = outcomes["poison"], outcomes["calm"]
    assert isinstance(failure, EditFailure) and failure.code == "non_finite"
    assert isinstance(calm, EditResult)


def test_a_batch_that_does_not_fit_is_halved(twins: Twins) -> None:
    def small(
        predict: Callable[..., torch.Tensor], latents: torch.Tensor, *others: Any
    ) -> torch.Tensor:
        if len(latents) > ROWS_THAT_FIT:
            raise torch.OutOfMemoryError(f"{len(latents)} rows do not fit")
        return predict(latents, *others)

    loop = twins.loop(changed(twins.editor, predict=small))
    expected = 2 * twins.expected[:3]
    for mine, theirs in zip(twins.rayedit(2 * twins.edits[:3], loop=loop), expected, strict=True):
        check_same(mine, theirs, twins.family.bound)
    assert loop.counters.out_of_memory > 0


def test_partial_images_come_and_change_no_byte_of_the_edit(twins: Twins) -> None:
    edit = twins.edits[2]
    request = twins.request(edit)
    shown: dict[int, np.ndarray] = {}

    def show(id: str, k: int, image: np.ndarray) -> None:
        shown[k] = image

    watched = run(
        twins.loop(watcher=Watcher(partial_image=show)), [replace(request, partial_images=2)]
    )["edit"]
    assert isinstance(watched, EditResult)
    assert watched.images[0].tobytes() == twins.alone[2].pixels.tobytes()
    assert {k: image.shape for k, image in shown.items()} == dict.fromkeys(
        (0, 1), edit.sources[0].shape
    )
    assert not np.array_equal(shown[0], shown[1])


def test_what_a_mask_keeps_is_the_source_in_every_bit_of_the_latents(twins: Twins) -> None:
    """Also a stroke of one pixel may change, and where nothing may, nothing does."""
    edit = twins.edits[1]
    mask = np.zeros(edit.sources[0].shape[:2], np.uint8)
    mask[20, 10:50] = 255
    decoded: list[torch.Tensor] = []

    def watched(decode: Callable[..., Any], latents: torch.Tensor, **settings: Any) -> Any:
        decoded.append(latents[0].clone())
        return decode(latents, **settings)

    request = twins.request(replace(edit, mask=mask))
    with torch.inference_mode():
        [conditioning] = twins.editor.encode([request])
    run(twins.loop(changed(twins.editor, decode=watched)), [request])
    assert conditioning.source is not None and conditioning.mask is not None
    kept = (conditioning.mask == 0).expand_as(conditioning.source)
    assert 0 < int(kept.sum()) < kept.numel()
    assert torch.equal(decoded[-1][kept], conditioning.source[kept])
    assert not torch.isclose(decoded[-1][~kept], conditioning.source[~kept]).any()


def reconstruction(vae: Any, pixels: np.ndarray) -> np.ndarray:
    """What the VAE makes of a picture, (H, W, 3) 0..255: its latents' mode, decoded as they are."""
    images = torch.from_numpy(pixels / 127.5 - 1).float().permute(2, 0, 1)[None]
    film = "temperal_downsample" in vae.config  # Qwen-Image's takes a film of one frame
    encoded = vae.encode(images[:, :, None] if film else images)
    latents = encoded.latent_dist.mode() if hasattr(encoded, "latent_dist") else encoded.latents
    made = vae.decode(latents, return_dict=False)[0]
    made = (made[:, :, 0] if film else made)[0].permute(1, 2, 0)
    return ((made / 2 + 0.5).clamp(0, 1) * 255).numpy()


def test_the_source_that_a_mask_keeps_is_in_the_scale_of_the_state(twins: Twins) -> None:
    """Decoded as a finished sample is, it is what the VAE makes of the photograph."""
    edit = twins.edits[1]
    mask = np.full(edit.sources[0].shape[:2], 255, np.uint8)
    with torch.inference_mode():
        [conditioning] = twins.editor.encode([twins.request(replace(edit, mask=mask))])
        assert conditioning.source is not None
        [mine] = twins.editor.decode(conditioning.source[None])
        theirs = reconstruction(twins.pipeline.vae, edit.sources[0])
    assert np.abs(mine - theirs).max() <= 1
