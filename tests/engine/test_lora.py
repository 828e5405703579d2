"""A LoRA beside every family that takes one: diffusers' latents, whatever the file's layout."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from engine.adapter import Adapter, find_adapter
from engine.adapters import Adapters
from engine.edit import EditRequest
from engine.lora import layers_of, read_lora
from engine.models import Adapting
from tests.engine.families import (
    BOUND,
    FAMILIES,
    Family,
    Twins,
    check_same,
    difference,
    edits_of,
    one_thread,
)
from tests.tiny import lora
from tests.tiny.edits import Edit
from tests.tiny.pipelines import Drawn, load

SHOWS = 100 * BOUND
TAKE_LORA = {
    "sd15-canny",
    "instruct-pix2pix",
    "sdxl-instruct-pix2pix",
    "flux-kontext",
    "flux2-klein",
    "qwen-image-edit-2511",
}
Style = tuple[Adapter | None, float]


class StyledTwins(Twins):
    """Twins whose edits have a LoRA each, by their seed."""

    def __init__(self, family: Family, folder: Path, files: Path) -> None:
        super().__init__(family, folder)
        assert isinstance(self.editor, Adapting)
        self.adapting: Adapting = self.editor
        self.part = self.adapting.denoiser_part
        self.files = files
        self.styles: dict[int, Style] = {}

    def adapter(self, seed: int) -> Adapter:
        """A LoRA of random weights in peft's layout."""
        weights = lora.halves(self.adapting.denoiser, seed)
        file = lora.save(self.files / f"{seed}.safetensors", lora.as_peft(self.part, weights))
        return find_adapter(str(seed), file)

    def request(self, edit: Edit, id: str = "edit") -> EditRequest:
        request = super().request(edit, id)
        adapter, scale = self.styles.get(edit.seed, (None, 1.0))
        options = request.options.model_copy(update={"lora_scale": scale})
        return replace(request, options=options, adapter=adapter)

    def styled(self, adapter: Adapter | None, scale: float) -> Any:
        """diffusers' pipeline with the adapter, as its users load one."""
        pipeline = load(self.folder)
        if adapter is not None:
            file = Path(adapter.path)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of peft about itself
                pipeline.load_lora_weights(
                    str(file.parent), weight_name=file.name, adapter_name="it"
                )
            pipeline.set_adapters(["it"], [scale])
        return pipeline

    def mine(self, edit: Edit, adapter: Adapter | None, scale: float = 1.0) -> Drawn:
        self.styles = {edit.seed: (adapter, scale)}
        return self.rayedit([edit])[0]


@pytest.fixture(scope="module", params=[f for f in FAMILIES if f.name in TAKE_LORA], ids=str)
def twins(
    request: pytest.FixtureRequest,
    tiny: Callable[[str], Path],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[StyledTwins]:
    pytest.importorskip("peft")
    with one_thread():
        files = tmp_path_factory.mktemp("lora")
        yield StyledTwins(request.param, tiny(request.param.name), files)


def test_styled_edits_are_those_of_diffusers_alone_and_in_a_mixed_batch(twins: StyledTwins) -> None:
    """Two scales of one LoRA share their calls; another LoRA and none are in the same loop."""
    one, two = twins.adapter(1), twins.adapter(2)
    first, *others = edits_of(twins.family)
    steps = [{**first.options, "num_inference_steps": count} for count in (2, 5, 4)]
    edits = [*(replace(first, options=options) for options in steps), *others[:3]]
    edits = [replace(edit, seed=i) for i, edit in enumerate(edits)]
    styles: list[Style] = [(one, 1.0), (one, 0.6), (one, 1.5), (two, 1.0), (two, 0.3), (None, 1.0)]
    expected = [
        twins.diffusers(edit, twins.styled(*style))
        for edit, style in zip(edits, styles, strict=True)
    ]
    for edit, style, theirs in zip(edits, styles, expected, strict=True):
        check_same(twins.mine(edit, *style), theirs)

    loop = twins.loop()
    twins.styles = {edit.seed: style for edit, style in zip(edits, styles, strict=True)}
    for mine, theirs in zip(twins.rayedit(edits, loop=loop), expected, strict=True):
        check_same(mine, theirs)
    assert loop.counters.calls < sum(edit.options["num_inference_steps"] for edit in edits)


def test_a_fused_lora_is_the_same_edit_and_another_scale_file_or_none_is_not(
    twins: StyledTwins,
) -> None:
    edit = edits_of(twins.family)[1]
    adapter, other = twins.adapter(1), twins.adapter(2)
    pipeline = twins.styled(adapter, 0.8)
    pipeline.fuse_lora()
    fused = twins.diffusers(edit, pipeline)
    check_same(twins.mine(edit, adapter, 0.8), fused)
    assert difference(twins.mine(edit, adapter, 0.5), fused) > SHOWS
    assert difference(twins.mine(edit, other, 0.8), fused) > SHOWS
    assert difference(twins.mine(edit, None), fused) > SHOWS
    check_same(twins.mine(edit, None), twins.mine(edit, adapter, 0.0))


def test_every_layout_of_a_file_gives_the_same_edit(twins: StyledTwins) -> None:
    weights = lora.halves(twins.adapting.denoiser, seed=3)
    scaled = {name: (down, up * (lora.ALPHA / lora.RANK)) for name, (down, up) in weights.items()}
    plain = lora.as_peft(twins.part, scaled)
    metadata = {f"{twins.part}.r": lora.RANK, f"{twins.part}.lora_alpha": lora.ALPHA}
    files = {
        "peft": lora.save(twins.files / "peft.safetensors", plain),
        "metadata": lora.save(
            twins.files / "metadata.safetensors",
            lora.as_peft(twins.part, weights),
            {"lora_adapter_metadata": json.dumps(metadata)},
        ),
        "folder": lora.save_peft_folder(twins.files / "folder", weights),
    }
    if twins.part == "unet":
        old = lora.as_diffusers(twins.part, scaled)
        files["diffusers"] = lora.save(twins.files / "old.safetensors", old)
    if twins.part == "unet" or "qwen" in twins.family.name:
        kohya = lora.as_kohya(weights)
        files["kohya"] = lora.save(twins.files / "kohya.safetensors", kohya)
    edit = edits_of(twins.family)[0]
    first, *others = (twins.mine(edit, find_adapter(name, file)) for name, file in files.items())
    assert difference(twins.mine(edit, None), first) > SHOWS
    for other in others:
        check_same(other, first)


@pytest.mark.parametrize("name", ["sdxl-instruct-pix2pix", "flux-kontext"])
def test_kohyas_names_of_another_base_are_those_that_diffusers_reads(
    name: str, tiny: Callable[[str], Path], tmp_path: Path
) -> None:
    """sd-scripts trains SDXL and FLUX on their first implementations, whose layers differ."""
    pytest.importorskip("peft")
    family = next(family for family in FAMILIES if family.name == name)
    with one_thread():
        twins = StyledTwins(family, tiny(name), tmp_path)
        width = 32
        draw = torch.Generator().manual_seed(5)
        if name == "flux-kontext":  # one weight for three layers
            stem, shapes = "lora_unet_double_blocks_0_img_attn_qkv", (width, 3 * width)
        else:
            stem, shapes = "lora_unet_input_blocks_3_1_transformer_blocks_0_attn1_to_q", (16, 16)
        tensors = {
            f"{stem}.lora_down.weight": torch.randn(2, shapes[0], generator=draw),
            f"{stem}.lora_up.weight": torch.randn(shapes[1], 2, generator=draw),
            f"{stem}.alpha": torch.tensor(1.0),
        }
        adapter = find_adapter("it", lora.save(tmp_path / "it.safetensors", tensors))
        edit = edits_of(family)[0]
        theirs = twins.diffusers(edit, twins.styled(adapter, 1.0))
        check_same(twins.mine(edit, adapter), theirs)
        assert difference(twins.mine(edit, None), theirs) > SHOWS


def test_an_alpha_of_one_layer_is_of_that_layer_alone(
    tiny: Callable[[str], Path], tmp_path: Path
) -> None:
    family = FAMILIES[0]
    twins = StyledTwins(family, tiny(family.name), tmp_path)
    tensors = lora.as_kohya(lora.halves(twins.adapting.denoiser, seed=1))
    changed = next(name for name in tensors if name.endswith("to_q.alpha"))
    read = []
    for alpha in (lora.ALPHA, 2 * lora.ALPHA):
        file = lora.save(
            tmp_path / f"{alpha}.safetensors", {**tensors, changed: torch.tensor(alpha)}
        )
        layers = layers_of(twins.adapting)
        read.append(read_lora(find_adapter("it", file), twins.adapting, layers).layers)
    factors = {name: float((read[1][name].up / low.up).mean()) for name, low in read[0].items()}
    others = [1.0] * (len(factors) - 1)
    assert sorted(round(factor, 5) for factor in factors.values()) == [*others, 2.0]


def test_without_its_adapter_a_model_is_what_it_was(twins: StyledTwins) -> None:
    edit = edits_of(twins.family)[0]
    before = twins.mine(edit, None)
    adapters = Adapters(twins.editor)
    adapters.apply(twins.adapter(1), torch.ones(1))
    assert difference(twins.mine(edit, None), before) > SHOWS  # the hooks are there
    adapters.apply(None, None)
    assert twins.mine(edit, None).latents.equal(before.latents)
