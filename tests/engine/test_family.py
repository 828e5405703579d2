"""The loop's side of the contract with a family: layouts, masks, starts, guidance, options."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch

from engine.canvas import canvas_of
from engine.capacity import Capacity
from engine.config import EngineConfig
from engine.edit import EditRequest
from engine.errors import ModelError, OptionInvalid
from engine.geometry import plan_geometry
from engine.guidance import branches, weigh
from engine.loading import load_model
from engine.loop import DenoiseLoop
from engine.models import Conditioning, ContractBroken, Inputs
from engine.options import Determinism, EditOptions, ResolvedOptions
from engine.packing import Packer
from engine.sampling import Schedule
from engine.scheduler_tables import SamplerTables
from engine.seeding import image_seed
from engine.spec import ModelSpec

SHAPE = (2, 4, 4)
FLOW = {
    "_class_name": "FlowMatchEulerDiscreteScheduler",
    "use_dynamic_shifting": True,
    "base_shift": 0.5,
    "max_shift": 1.15,
}
TOY = ModelSpec(
    name="toy",
    source="toy",
    editor="",
    guidance="true_cfg",
    options=frozenset({"true_cfg_scale", "negative_prompt", "strength"}),
    defaults={"num_inference_steps": 4, "true_cfg_scale": 1.0, "strength": 1.0},
    max_sources=2,
    multiple=8,
)


class Toy:
    """A family whose "model" is plain arithmetic on its inputs. An instruction of n letters is n
    tokens; what a call was given is kept in `calls`."""

    spec = TOY
    device = torch.device("cpu")
    scheduler_config = FLOW
    example = Schedule(4, mu=1.0, linear=True)
    ragged = frozenset({"text", "mask"})
    deviation: torch.Tensor | None = None

    def __init__(self) -> None:
        self.calls: list[tuple[Hashable, dict[str, torch.Size]]] = []
        self.decoded: list[torch.Tensor] = []

    def schedule(self, request: EditRequest) -> Schedule:
        steps, strength = request.options.num_inference_steps, request.options.scale("strength")
        begin = int(steps - steps * strength) if strength < 1 or request.mask is not None else None
        return Schedule(steps, mu=request.pixels.shape[1] / 16, linear=True, begin=begin)

    def check(self, request: EditRequest) -> Sequence[str]:
        return []

    def encode(self, requests: Sequence[EditRequest]) -> list[Conditioning]:
        return [self._condition(request) for request in requests]

    def _condition(self, request: EditRequest) -> Conditioning:
        negative = (request.options.negative_prompt or "").ljust(len(request.instruction))
        texts = {"text": request.instruction, "negative": negative}
        weights = branches(self.spec.guidance, request.options)
        mask = None if request.mask is None else torch.from_numpy(request.mask[None] / 255).float()
        rows = [self._row(texts[name]) for name in weights]
        layout = tuple(r.shape[:2] for r in request.references)
        source = torch.full(SHAPE, float(request.pixels.mean()) / 255)
        return Conditioning(
            rows, list(weights.values()), SHAPE, layout, source, self.deviation, mask
        )

    def _row(self, text: str) -> Inputs:
        letters = torch.tensor([ord(letter) / 128 for letter in text])
        return {"text": letters, "mask": torch.ones(len(text), dtype=torch.bool)}

    def predict(
        self, latents: torch.Tensor, timesteps: torch.Tensor, inputs: Inputs, layout: Hashable
    ) -> torch.Tensor:
        self.calls.append((layout, {name: tensor.shape for name, tensor in inputs.items()}))
        assert not (inputs["text"] * ~inputs["mask"]).any()
        mean = (inputs["text"] * inputs["mask"]).sum(1) / inputs["mask"].sum(1)
        return latents * 0.5 + mean[:, None, None, None] + timesteps[:, None, None, None] / 4000

    def decode(self, latents: torch.Tensor, *, float32: bool = False) -> list[np.ndarray]:
        self.decoded += list(latents.clone())
        return [np.zeros((8, 8, 3), np.uint8) for _ in latents]


def edit(
    id: str, text: str = "night", *, references: Sequence[int] = (), **given: object
) -> EditRequest:
    """A request of 8 x 8 px; `references`: the sides of further sources."""
    mask = given.pop("mask", None)
    options = TOY.resolve(EditOptions.parse(given), seed=7)
    pixels = np.full((8, 8, 3), 128, np.uint8)
    others = tuple(np.zeros((side, side, 3), np.uint8) for side in references)
    return EditRequest(id, pixels, text, options, references=others, mask=mask)


def latents_of(
    toy: Toy, requests: Sequence[EditRequest], determinism: Determinism = "seeded"
) -> dict[str, torch.Tensor]:
    """The last latents of each request, by id; before them the sources of masked edits come."""
    loop = DenoiseLoop(toy, Capacity(8), determinism=determinism)  # type: ignore[arg-type]
    for request in requests:
        loop.admit(request, loop.check(request))
    found: dict[str, torch.Tensor] = {}
    while not loop.idle:
        outcomes = loop.step()
        last = toy.decoded[len(toy.decoded) - len(outcomes) :]
        for outcome, latents in zip(outcomes, last, strict=True):
            assert hasattr(outcome, "images"), outcome
            found[outcome.id] = latents
    return found


def test_texts_of_other_lengths_share_a_call_and_are_padded_under_a_mask() -> None:
    requests = [edit("a", "x"), edit("b", "a longer text")]
    toy = Toy()
    together = latents_of(toy, requests)
    assert [shapes["text"] for _, shapes in toy.calls] == [torch.Size((2, 13))] * 4
    for request in requests:
        alone = latents_of(Toy(), [request])
        torch.testing.assert_close(together[request.id], alone[request.id], rtol=0, atol=1e-6)


def test_in_bucket_a_length_does_not_depend_on_the_neighbours_and_in_strict_nothing_is_padded() -> (
    None
):
    requests = [edit("a", "x"), edit("b", "y" * 70), edit("c", "z" * 63)]
    seen: dict[Determinism, set[torch.Size]] = {}
    levels: tuple[Determinism, ...] = ("bucket", "strict")
    for level in levels:
        toy = Toy()
        latents_of(toy, requests, level)
        seen[level] = {shapes["text"] for _, shapes in toy.calls}
    assert seen["bucket"] == {torch.Size((2, 64)), torch.Size((1, 128))}
    assert seen["strict"] == {torch.Size((1, n)) for n in (1, 70, 63)}


@pytest.mark.parametrize(("determinism", "length"), [("strict", 5), ("seeded", 64)])
def test_the_lengths_of_graphs_fill_a_bucket_but_in_strict(
    determinism: Determinism, length: int
) -> None:
    toy = Toy()
    loop = DenoiseLoop(toy, Capacity(8))  # type: ignore[arg-type]
    loop.admit(edit("a", "night"))
    loop.step()
    packer = Packer(toy, determinism, whole=True)  # type: ignore[arg-type]
    call = packer.pack_call(loop._running[0].samples)
    assert call.inputs["text"].shape == (1, length)


def test_sources_of_other_shapes_are_other_lanes_and_layouts_other_calls() -> None:
    toy = Toy()
    latents_of(toy, [edit("a"), edit("b", references=[8]), edit("c", references=[16]), edit("d")])
    assert {layout for layout, _ in toy.calls} == {(), ((8, 8),), ((16, 16),)}
    assert {shapes["text"][0] for layout, shapes in toy.calls if not layout} == {2}


class TwoLayouts(Toy):
    """Its layout is known after encoding alone."""

    def _condition(self, request: EditRequest) -> Conditioning:
        return replace(super()._condition(request), layout=request.instruction[0])


def test_requests_of_one_lane_and_two_layouts_are_two_calls() -> None:
    toy = TwoLayouts()
    latents_of(toy, [edit("a", "aa"), edit("b", "bb"), edit("c", "ab")])
    assert sorted((str(layout), shapes["text"][0]) for layout, shapes in toy.calls) == [
        *[("a", 2)] * 4,
        *[("b", 1)] * 4,
    ]


class Careless(Toy):
    """Pads nothing and says so of nothing."""

    ragged: frozenset[str] = frozenset()


class Unmasked(Toy):
    ragged = frozenset({"text", "mask"})

    def _row(self, text: str) -> Inputs:
        return {name: tensor.float() for name, tensor in super()._row(text).items()}


class Uneven(Toy):
    def _condition(self, request: EditRequest) -> Conditioning:
        rows = [self._row(request.instruction), self._row("")]
        return Conditioning(rows, [2.0, -1.0], SHAPE)


@pytest.mark.parametrize(
    ("family", "said"),
    [
        (Careless, r"only \[\] may differ in length"),
        (Unmasked, "no mask"),
        (Uneven, "rows of one request differ"),
    ],
)
def test_a_family_that_breaks_the_contract_raises_and_is_not_run_one_by_one(
    family: type[Toy], said: str
) -> None:
    toy = family()
    with pytest.raises(ContractBroken, match=said):
        latents_of(toy, [edit("a", "x"), edit("b", "a longer text")])
    assert toy.calls == []


def test_more_sources_than_a_model_takes_are_refused() -> None:
    loop = DenoiseLoop(Toy(), Capacity(8))  # type: ignore[arg-type]
    assert loop.check(edit("a", references=[8])) == ()
    with pytest.raises(OptionInvalid, match="toy takes at most 2 source images; got 3"):
        loop.check(edit("a", references=[8, 8]))


def test_what_is_masked_stays_the_source_and_a_mask_of_ones_changes_no_bit() -> None:
    mask = np.zeros((4, 4), np.uint8)
    everything = np.full((4, 4), 255, np.uint8)
    mask[:, 2:] = 255
    found = latents_of(Toy(), [edit("half", mask=mask), edit("all", mask=everything)])
    kept = latents_of(Toy(), [edit("half", "other", mask=mask)])["half"]
    assert torch.equal(found["half"][:, :, :2], torch.full((2, 4, 2), 128 / 255))
    assert torch.equal(found["half"][:, :, :2], kept[:, :, :2])
    assert not torch.equal(found["half"][:, :, 2:], kept[:, :, 2:])
    unmasked = latents_of(Toy(), [edit("all")])["all"]
    assert torch.equal(found["all"], unmasked)


def test_while_it_is_denoised_the_kept_part_is_the_source_under_the_first_noise() -> None:
    mask = np.zeros((4, 4), np.uint8)
    loop = DenoiseLoop(Toy(), Capacity(8))  # type: ignore[arg-type]
    request = edit("a", mask=mask)
    loop.admit(request)
    table = SamplerTables(FLOW, Toy.example).table(None, Toy().schedule(request))
    noise = torch.randn((1, *SHAPE), generator=torch.Generator().manual_seed(7))[0]
    for k in range(3):
        loop.step()
        (sample,) = loop._running[0].samples
        source, first = table.known[k].tolist()
        torch.testing.assert_close(sample.state[0], source * 128 / 255 + first * noise)


class Forgetful(Toy):
    def _condition(self, request: EditRequest) -> Conditioning:
        return replace(super()._condition(request), mask=None)


def test_a_mask_that_a_family_does_not_keep_fails_its_own_edit_and_is_never_ignored() -> None:
    loop = DenoiseLoop(Forgetful(), Capacity(8))  # type: ignore[arg-type]
    for request in (edit("masked", mask=np.full((4, 4), 255, np.uint8)), edit("plain")):
        loop.admit(request)
    outcomes = {}
    while not loop.idle:
        outcomes |= {outcome.id: outcome for outcome in loop.step()}
    assert getattr(outcomes["masked"], "message", "").startswith("this model's family keeps no")
    assert hasattr(outcomes["plain"], "images")


def test_a_run_from_the_source_draws_its_posterior_first_and_makes_fewer_calls() -> None:
    toy = Toy()
    toy.deviation = torch.full(SHAPE, 0.1)
    request = edit("a", strength=0.5, num_images=2)
    loop = DenoiseLoop(toy, Capacity(8))  # type: ignore[arg-type]
    loop.admit(request)
    loop.step()
    table = SamplerTables(FLOW, Toy.example).table(None, toy.schedule(request))
    assert (table.num_calls, toy.schedule(request).begin) == (2, 2)
    for sample in loop._running[0].samples:
        generator = torch.Generator().manual_seed(image_seed(7, sample.index))
        posterior, noise = (torch.randn((1, *SHAPE), generator=generator)[0] for _ in range(2))
        source = torch.full(SHAPE, 128 / 255) + 0.1 * posterior
        start = table.start.source * source + table.start.noise * noise
        output = start * 0.5 + torch.tensor([ord(c) / 128 for c in "night"]).mean()
        output = output + table.timesteps[0] / 4000
        expected = table.carry[0, 0, 0] * start + table.gain[0, 0] * output
        torch.testing.assert_close(sample.state[0], expected)


class Norm(Toy):
    """Guidance that is not linear: the guided prediction at the length of the first branch."""

    def combine(self, predicted: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        guided = weigh(predicted, weights)
        return guided * predicted[:, 0].flatten(1).norm(dim=1).view(-1, 1, 1, 1) / guided.norm()


def test_a_family_may_combine_its_branches_itself() -> None:
    request = edit("a", true_cfg_scale=3.0, negative_prompt="dull")
    assert not torch.equal(latents_of(Norm(), [request])["a"], latents_of(Toy(), [request])["a"])


def test_the_branches_that_are_saved_are_those_of_the_models_own_kind_of_guidance() -> None:
    loop = DenoiseLoop(Toy(), Capacity(8))  # type: ignore[arg-type]
    loop.admit(edit("a"))
    loop.admit(edit("b", true_cfg_scale=3.0, negative_prompt="dull"))
    while not loop.idle:
        loop.step()
    assert (loop.counters.branches, loop.counters.branches_saved) == (4 * 3, 4 * 1)


def test_branches_that_count_nothing_are_not_named() -> None:
    def named(**given: object) -> dict[str, float]:
        return branches("true_cfg", TOY.resolve(EditOptions.parse(given), seed=0))

    assert named() == {"text": 1.0}
    assert named(true_cfg_scale=1.0) == {"text": 1.0}
    assert named(true_cfg_scale=3.0, negative_prompt="") == {"text": 3.0, "negative": -2.0}


def test_a_negative_prompt_and_its_scale_are_refused_without_each_other() -> None:
    def resolve(spec: ModelSpec, **given: object) -> ResolvedOptions:
        return spec.resolve(EditOptions.parse(given), seed=0)

    with pytest.raises(OptionInvalid, match=r"true_cfg_scale 3\.0 needs a negative_prompt"):
        resolve(TOY, true_cfg_scale=3.0)
    with pytest.raises(OptionInvalid, match="no effect on model toy while true_cfg_scale is 1"):
        resolve(TOY, negative_prompt="dull")
    ready = replace(TOY, defaults={**TOY.defaults, "true_cfg_scale": 4.0, "negative_prompt": " "})
    assert resolve(ready, negative_prompt="dull").true_cfg_scale == 4.0
    assert resolve(ready, true_cfg_scale=3.0).negative_prompt == " "


def test_an_option_that_a_model_does_not_have_is_refused_by_name(pocket: ModelSpec) -> None:
    def refusal(spec: ModelSpec, **given: object) -> tuple[str, str | None]:
        with pytest.raises(OptionInvalid) as caught:
            spec.resolve(EditOptions.parse(given), seed=0)
        return caught.value.message, caught.value.param

    assert refusal(TOY, guidance_scale=3.0) == (
        "model toy has no guidance_scale; it takes true_cfg_scale, negative_prompt, strength",
        "guidance_scale",
    )
    assert refusal(pocket, strength=0.5)[1] == "strength"
    bare = replace(TOY, name="bare", options=frozenset())
    assert refusal(bare, negative_prompt="")[0] == (
        "model bare has no negative_prompt; it takes none of that kind"
    )
    assert bare.resolve(EditOptions(), seed=3).negative_prompt is None
    assert pocket.resolve(EditOptions(), seed=3).negative_prompt == ""


def test_all_of_a_spec_that_can_change_a_pixel_is_its_identity() -> None:
    moved = replace(TOY, source="elsewhere", licence="MIT", scripts=("CJK",), revision="abc")
    assert moved.identity() == TOY.identity()
    shifted = replace(TOY, defaults={**TOY.defaults, "strength": 0.9})
    assert shifted.identity() != TOY.identity()
    with pytest.raises(ModelError, match="toy: its spec is not serialisable"):
        replace(TOY, defaults={"scale": object()}).identity()


def test_a_model_that_cannot_be_captured_as_cuda_graphs_says_so(pocket: ModelSpec) -> None:
    config = EngineConfig(device="cpu", cuda_graphs=True)
    with pytest.raises(ModelError, match="pocket cannot be captured: leave cuda_graphs out"):
        load_model(replace(pocket, cuda_graphs=False), config)


@pytest.mark.parametrize(
    ("rule", "source", "canvas"),
    [
        ("side", (640, 480), (512, 384)),
        ("area", (640, 480), (592, 448)),
        ("area", (64, 48), (592, 448)),
        ("area", (4000, 100), (1024, 32)),
        ("at_most_area", (300, 200), (288, 192)),
        ("at_most_area", (3000, 2000), (624, 416)),
    ],
)
def test_a_family_has_a_rule_for_its_canvas(
    rule: str, source: tuple[int, int], canvas: tuple[int, int]
) -> None:
    assert canvas_of(source, replace(TOY, canvas=rule, multiple=16)) == canvas


@pytest.mark.parametrize(
    ("source", "canvas"),
    [((3000, 2000), (640, 448)), ((2000, 3000), (448, 640)), ((80, 80), (512, 512))],
)
def test_a_stretched_source_goes_to_the_nearest_size_that_the_model_was_trained_at(
    source: tuple[int, int], canvas: tuple[int, int]
) -> None:
    spec = replace(TOY, canvas="area", multiple=16, sizes=((512, 512), (640, 448), (448, 640)))
    geometry = plan_geometry(source, EditOptions(resize="stretch"), spec)
    assert (geometry.inner, geometry.output, geometry.box) == (canvas, canvas, (0, 0, *source))
    whole = plan_geometry(source, EditOptions(resize="stretch", restore_size=True), spec)
    assert (whole.inner, whole.output) == (canvas, source)
    asked = plan_geometry(source, EditOptions(resize="stretch", size="256x128"), spec)
    assert asked.inner == (256, 128)
    without = replace(spec, sizes=())
    assert plan_geometry(source, EditOptions(resize="stretch"), without).inner == canvas_of(
        source, without
    )


def test_a_shift_that_depends_on_the_canvas_is_a_table_of_its_own() -> None:
    tables = SamplerTables(FLOW, Toy.example)
    small, large = (tables.table(None, Schedule(4, mu=mu, linear=True)) for mu in (0.5, 1.15))
    assert small.timesteps[1] < large.timesteps[1]
    assert small is tables.table(None, Schedule(4, mu=0.5, linear=True))
    assert tables.default == "flow_match_euler"


def test_a_schedule_without_a_step_is_refused_and_not_an_internal_error() -> None:
    """At one step the levels of such a configuration are not numbers."""
    tables = SamplerTables({**FLOW, "shift_terminal": 0.02}, Toy.example)
    with pytest.raises(OptionInvalid, match=r"at 1 steps .*; ask for more steps"):
        tables.table(None, Schedule(1, mu=1.0, linear=True))


@pytest.mark.parametrize("begin", [None, 0, 3])
@pytest.mark.parametrize("scheduler", ["ddim", "euler", "euler_ancestral", "heun", "dpmpp_2m"])
def test_the_levels_of_the_source_are_those_of_diffusers(
    scheduler: str, begin: int | None, make: Callable[..., tuple[object, object]]
) -> None:
    table, theirs = make(scheduler, begin)
    source, noise = torch.randn(2, 1, 2, 4, 4, generator=torch.Generator().manual_seed(0))
    times = theirs.timesteps[(begin or 0) * theirs.order :]  # type: ignore[attr-defined]
    for k, t in enumerate(times[1:]):
        expected = theirs.add_noise(source, noise, t[None])  # type: ignore[attr-defined]
        a, b = table.known[k].tolist()  # type: ignore[attr-defined]
        torch.testing.assert_close(a * source + b * noise, expected)
    assert table.known[-1].tolist() == [1.0, 0.0]  # type: ignore[attr-defined]
    if begin is None:
        assert table.start.source == 0.0  # type: ignore[attr-defined]
    else:
        expected = theirs.add_noise(source, noise, times[:1])  # type: ignore[attr-defined]
        a, b = table.start  # type: ignore[attr-defined]
        torch.testing.assert_close(a * source + b * noise, expected)


@pytest.fixture(scope="module")
def make() -> Callable[..., tuple[object, object]]:
    """make("euler", begin=3) -> our table of 8 steps and diffusers' own scheduler."""
    from engine.schedulers import make_scheduler

    config = {
        "_class_name": "DDIMScheduler",
        "beta_schedule": "scaled_linear",
        "clip_sample": False,
        "timestep_spacing": "leading",
        "steps_offset": 1,
    }
    tables = SamplerTables(config)

    def pair(scheduler: str, begin: int | None) -> tuple[object, object]:
        theirs = make_scheduler(scheduler, config)  # type: ignore[arg-type]
        theirs.set_timesteps(8)
        return tables.table(scheduler, Schedule(8, begin=begin)), theirs  # type: ignore[arg-type]

    return pair
