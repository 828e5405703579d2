"""Pairs by Prompt-to-Prompt: plain pictures where nothing is shared, else the reference's."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch
from diffusers import EulerAncestralDiscreteScheduler, StableDiffusionPipeline

from engine import EditActor, EditOptions, EngineConfig
from engine.capacity import Capacity
from engine.edit import EditFailure, EditRequest, EditResult
from engine.errors import ModelError, OptionInvalid
from engine.loading import load_model
from engine.loop import DenoiseLoop
from engine.models import Editor
from engine.models.prompt_to_prompt import PromptToPrompt
from engine.options import Determinism
from engine.pair import P2PAttention, PairRequest, find_pair_model
from tests.engine.families import one_thread
from tests.engine.test_loop import run
from tests.tiny import stable_diffusion
from tests.tiny.pipelines import load

CAPTIONS = ("a cat on a sofa", "a red fox in the snow, at night")
STEPS = 5
SIDE_PX = 64
ATTENTIONS: tuple[P2PAttention, ...] = get_args(P2PAttention)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return stable_diffusion.build(tmp_path_factory.mktemp("stable-diffusion"))


def config(folder: Path, **settings: Any) -> EngineConfig:
    tiny = {
        **{"device": "cpu", "dtype": "float32", "num_threads": 1, "resolution": SIDE_PX},
        "options": EditOptions(num_inference_steps=STEPS),
    }
    return EngineConfig(model=str(folder), **{**tiny, **settings})


@pytest.fixture(scope="module")
def editor(folder: Path) -> Iterator[Editor]:
    with one_thread():
        asked = config(folder)
        yield load_model(find_pair_model(asked), asked).editor


@pytest.fixture(scope="module")
def pipeline(folder: Path) -> StableDiffusionPipeline:
    """diffusers' own, with the reference's sampler."""
    loaded = load(folder)
    loaded.scheduler = EulerAncestralDiscreteScheduler.from_config(loaded.scheduler.config)
    return loaded


def plain(editor: Editor, caption: str, id: str = "plain", **options: Any) -> EditRequest:
    """A picture of one caption."""
    canvas = np.zeros((SIDE_PX, SIDE_PX, 3), np.uint8)
    resolved = editor.spec.resolve(EditOptions(**options), seed=7)
    return EditRequest(id, canvas, caption, resolved)


def pair(
    editor: Editor,
    p: float,
    captions: tuple[str, str] = CAPTIONS,
    attention: P2PAttention = "self",
    id: str = "pair",
    **options: Any,
) -> PairRequest:
    one = plain(editor, captions[0], id, **options)
    return PairRequest(
        *(one.id, one.pixels, one.instruction, one.options),
        edited_caption=captions[1],
        p2p_threshold=p,
        attention=attention,
    )


def painted(
    editor: Editor, requests: Sequence[EditRequest], determinism: Determinism = "strict"
) -> list[np.ndarray]:
    """The picture of each request, all of them in one batch."""
    loop = DenoiseLoop(editor, Capacity(8), determinism=determinism)
    outcomes = run(loop, list(requests))
    pictures = []
    for request in requests:
        outcome = outcomes[request.id]
        assert isinstance(outcome, EditResult), outcome
        pictures += outcome.images
    return pictures


def halves(picture: np.ndarray) -> list[np.ndarray]:
    return np.split(picture, 2, axis=1)


def apart(left: np.ndarray, right: np.ndarray) -> int:
    """The largest difference, in levels of 255."""
    return int(np.abs(left.astype(int) - right).max())


def test_where_nothing_is_shared_a_pair_is_two_plain_pictures_bit_for_bit(editor: Editor) -> None:
    for attention in ATTENTIONS:
        (both,) = painted(editor, [pair(editor, 0.0, attention=attention)])
        for half, caption in zip(halves(both), CAPTIONS, strict=True):
            (alone,) = painted(editor, [plain(editor, caption)])
            assert half.tobytes() == alone.tobytes()


def test_a_plain_picture_is_that_of_diffusers_pipeline(
    editor: Editor, pipeline: StableDiffusionPipeline
) -> None:
    (mine,) = painted(editor, [plain(editor, CAPTIONS[1], guidance_scale=9.0)])
    theirs = pipeline(
        CAPTIONS[1],
        height=SIDE_PX,
        width=SIDE_PX,
        num_inference_steps=STEPS,
        guidance_scale=9.0,
        generator=torch.Generator("cpu").manual_seed(7),
    ).images[0]
    assert mine.std() > 8  # not a grey one
    assert apart(mine, np.asarray(theirs)) <= 1


def test_equal_captions_give_equal_pictures_whatever_is_shared(editor: Editor) -> None:
    same = (CAPTIONS[1], CAPTIONS[1])
    shares = (0.0, 0.3, 0.7, 1.0)
    for attention in ATTENTIONS:
        asked = [pair(editor, p, same, attention, id=f"{p}") for p in shares]
        for picture in painted(editor, asked, "seeded"):
            before, after = halves(picture)
            assert before.tobytes() == after.tobytes()


class ReferenceAttention:
    """InstructPix2Pix's: of four rows, both captions without and with text, the second and the
    fourth have the similarities of the first and the third."""

    def __init__(self, kinds: tuple[str, ...]) -> None:
        self.kinds, self.on = kinds, False

    def __call__(
        self, attn: Any, x: torch.Tensor, encoder_hidden_states: Any = None, **_: Any
    ) -> torch.Tensor:
        text = encoder_hidden_states
        kind, context = ("self", x) if text is None else ("cross", text)
        made = attn.to_q(x), attn.to_k(context), attn.to_v(context)
        q, k, v = (attn.head_to_batch_dim(one) for one in made)
        similar = q @ k.transpose(1, 2) * attn.scale
        if self.on and kind in self.kinds:
            first, _, third, _ = similar.chunk(4)
            similar = torch.cat([first, first, third, third])
        return attn.to_out[0](attn.batch_to_head_dim(similar.softmax(-1) @ v))


@torch.inference_mode()
def reference(
    pipeline: StableDiffusionPipeline, kinds: tuple[str, ...], p: float, scale: float
) -> np.ndarray:
    """Both pictures side by side: one noise, and shared while p > i / (steps - 1)."""
    attention, scheduler = ReferenceAttention(kinds), pipeline.scheduler
    pipeline.unet.set_attn_processor(attention)
    scheduler.set_timesteps(STEPS)
    texts = torch.cat([pipeline.encode_prompt(t, "cpu", 1, False)[0] for t in ("", "", *CAPTIONS)])
    twins = [torch.Generator("cpu").manual_seed(7) for _ in CAPTIONS]
    side = SIDE_PX // 8
    x = torch.cat([torch.randn((1, 4, side, side), generator=g) for g in twins])
    x = x * scheduler.init_noise_sigma
    for i, t in enumerate(scheduler.timesteps):
        attention.on = p > i / (STEPS - 1)
        rows = scheduler.scale_model_input(torch.cat([x, x]), t)
        empty, told = pipeline.unet(rows, t, encoder_hidden_states=texts).sample.chunk(2)
        x = scheduler.step(empty + scale * (told - empty), t, x, generator=twins).prev_sample
    pictures = pipeline.vae.decode(x / pipeline.vae.config.scaling_factor).sample
    levels = (pictures / 2 + 0.5).clamp(0, 1).mul(255).round().byte().permute(0, 2, 3, 1)
    return np.concatenate(list(levels.numpy()), axis=1)


@pytest.mark.parametrize("attention", ATTENTIONS)
def test_a_pair_is_that_of_the_reference(
    editor: Editor, pipeline: StableDiffusionPipeline, attention: P2PAttention
) -> None:
    kinds = ("self", "cross") if attention == "both" else (attention,)
    before = pipeline.unet.attn_processors
    try:
        theirs = {p: reference(pipeline, kinds, p, scale=9.0) for p in (0.0, 0.5, 1.0)}
    finally:
        pipeline.unet.set_attn_processor(before)
    for p, expected in theirs.items():
        (mine,) = painted(editor, [pair(editor, p, attention=attention, guidance_scale=9.0)])
        assert apart(mine, expected) <= 1, p
    assert apart(theirs[0.0], theirs[0.5]) > 8 and apart(theirs[0.5], theirs[1.0]) > 1


@pytest.mark.parametrize("attention", ["self", "both"])
def test_the_more_is_shared_the_nearer_are_the_pictures(
    editor: Editor, attention: P2PAttention
) -> None:
    """Of captions that differ in one thing. A step counts the more the earlier it is."""
    captions = ("a cat on a sofa", "a cat on a sofa at night")
    shares, seeds = (0.0, 0.1, 0.2, 0.4, 1.0), range(4)
    asked = [
        pair(editor, p, captions, attention, f"{p}-{seed}", seed=seed, num_inference_steps=8)
        for p in shares
        for seed in seeds
    ]
    distances = [
        float(np.abs(np.subtract(*halves(picture.astype(float)))).mean())
        for picture in painted(editor, asked, "seeded")
    ]
    means = np.reshape(distances, (len(shares), len(seeds))).mean(axis=1).tolist()
    assert means == sorted(means, reverse=True) and len(set(means)) == len(means), means
    assert means[-1] < means[0] / 2


def mixed(editor: Editor) -> list[PairRequest]:
    """Other shares, scales, steps and seeds."""
    return [
        pair(editor, 0.0, id="a", seed=1, guidance_scale=7.5),
        pair(editor, 0.4, id="b", seed=2, guidance_scale=15.0),
        pair(editor, 0.9, id="c", seed=3, guidance_scale=9.0, num_inference_steps=3),
    ]


def test_pairs_packed_together_are_the_pairs_alone(editor: Editor) -> None:
    asked = mixed(editor)
    alone = [painted(editor, [request])[0] for request in asked]
    together = painted(editor, asked)
    assert [p.tobytes() for p in together] == [p.tobytes() for p in alone]
    assert len({p.tobytes() for p in alone}) == len(alone)


def test_pairs_of_other_shares_and_scales_share_every_call(editor: Editor) -> None:
    asked = mixed(editor)
    loop = DenoiseLoop(editor, Capacity(8), determinism="seeded")
    outcomes = run(loop, list(asked))
    assert loop.counters.calls == STEPS
    for request, alone in zip(asked, painted(editor, asked), strict=True):
        outcome = outcomes[request.id]
        assert isinstance(outcome, EditResult)
        assert apart(outcome.images[0], alone) <= 1


def test_what_is_wrong_with_a_pair_stays_with_it(folder: Path, editor: Editor) -> None:
    good = pair(editor, 0.5, attention="cross")
    bad = {
        "instruction_too_long": replace(good, id="long", edited_caption="very " * 60),
        "option_invalid": replace(good, id="far", p2p_threshold=1.5),
    }
    asked = config(folder, determinism="strict")
    with EditActor(asked, find_pair_model(asked)) as actor:
        first, *failed = actor.edit_batch([good, *bad.values()])
    assert isinstance(first, EditResult)
    assert first.images[0].tobytes() == painted(editor, [good])[0].tobytes()
    assert [one.code for one in failed if isinstance(one, EditFailure)] == [*bad]


def test_what_needs_a_source_is_refused(editor: Editor) -> None:
    loop = DenoiseLoop(editor, Capacity(1))
    for options in ({"detail": "source"}, {"measures": "fast"}, {"num_images": 2}):
        with pytest.raises(OptionInvalid, match="pictures of captions have no source"):
            loop.check(plain(editor, CAPTIONS[0], **options))


def test_only_a_text_to_image_model_paints_pairs(folder: Path) -> None:
    spec = PromptToPrompt.describe(folder)
    assert (spec.resolution, spec.multiple, spec.parts) == (64, 16, {})
    assert spec.defaults["num_inference_steps"] == 100  # the reference's
    with pytest.raises(ModelError, match="pocket paints no pairs: Prompt-to-Prompt needs"):
        find_pair_model(EngineConfig())
    with pytest.raises(OptionInvalid, match="controlnet: pairs are painted from their captions"):
        find_pair_model(config(folder, controlnet="somewhere"))
    with pytest.raises(OptionInvalid, match="has no strength"):
        find_pair_model(config(folder, options=EditOptions(strength=0.5)))
    compiled = config(folder, compile=True)
    with pytest.raises(ModelError, match="leave compile out"):
        load_model(find_pair_model(compiled), compiled)
