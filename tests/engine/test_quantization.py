"""A quantised denoiser is smaller, edits nearly as before, and keeps the promises of the loop.

nf4 takes a GPU: tests/gpu.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from engine import EngineConfig
from engine.adapter import Adapter, find_adapter
from engine.adapters import Adapters
from engine.capacity import Capacity
from engine.config import Quantization
from engine.edit import EditResult
from engine.errors import ModelError
from engine.loading import cost_settings, load_model
from engine.loop import DenoiseLoop
from engine.models import Editor
from engine.models.quantization import check_quantization
from engine.options import Determinism
from engine.registry import find_model
from tests.engine.company import in_random_company
from tests.engine.families import FAMILIES, Twins, edits_of, one_thread
from tests.engine.test_family_promises import neighbours_of
from tests.engine.test_loop import run
from tests.tiny import lora
from tests.tiny.edits import Edit

DENOISERS = (  # a family for each class
    *("instruct-pix2pix", "sdxl-instruct-pix2pix", "sd15-canny", "dreamlite"),
    *("flux-kontext", "flux2-klein", "qwen-image-edit"),
)
KINDS = [*(("int8", name) for name in DENOISERS), ("float8", "flux-kontext")]
KONTEXT = next(family for family in FAMILIES if family.name == "flux-kontext")


@pytest.fixture(autouse=True)
def threads() -> Iterator[None]:
    with one_thread():
        yield


@pytest.fixture
def torchao() -> None:
    pytest.importorskip("torchao")


def stored_bytes(weight: torch.Tensor) -> int:
    """What a weight takes: one that is quantised tells the size of what it stands for."""
    if not hasattr(weight, "__tensor_flatten__"):
        return weight.nbytes
    names, _ = weight.__tensor_flatten__()
    return sum(stored_bytes(getattr(weight, name)) for name in names)


def denoiser_of(editor: Editor) -> torch.nn.Module:
    return getattr(editor, "_transformer", None) or editor._unet  # type: ignore[attr-defined]


def linear_bytes(editor: Editor) -> int:
    layers = [m for m in denoiser_of(editor).modules() if isinstance(m, torch.nn.Linear)]
    return sum(stored_bytes(layer.weight) for layer in layers)


def edited(twins: Twins, edit: Edit, adapter: Adapter | None = None) -> np.ndarray:
    loop = twins.loop(adapters=Adapters(twins.editor))
    request = twins.request(edit)
    options = request.options.model_copy(update={"lora_scale": 1.0})
    request = replace(request, adapter=adapter, options=options)
    (outcome,) = run(loop, [request]).values()
    assert isinstance(outcome, EditResult), outcome
    return outcome.images[0].astype(float)


@pytest.mark.parametrize(("quantization", "name"), KINDS)
def test_a_quantised_denoiser_is_smaller_and_its_edits_are_nearly_the_same(
    quantization: Quantization, name: str, tiny: Callable[[str], Path], torchao: None
) -> None:
    """A scale for each row of 8 to 64 weights, as these models have them, is beside a byte each."""
    family = next(family for family in FAMILIES if family.name == name)
    folder = tiny(name)
    edit = edits_of(family)[0]
    plain, twins = Twins(family, folder), Twins(family, folder, quantization=quantization)
    assert linear_bytes(twins.editor) < 0.45 * linear_bytes(plain.editor)
    expected = edited(plain, edit)
    moved = np.abs(edited(twins, edit) - expected).mean()
    another = np.abs(edited(plain, replace(edit, seed=edit.seed + 1)) - expected).mean()
    assert 0 < moved < 0.1 * another


@pytest.mark.parametrize(
    ("quantization", "determinism"), [("int8", "bucket"), ("float8", "strict")]
)
def test_random_neighbours_change_no_byte_of_a_quantised_edit(
    quantization: Quantization,
    determinism: Determinism,
    tiny: Callable[[str], Path],
    torchao: None,
) -> None:
    """Of the weights alone there is a scale, and none that the rows of a call would share."""
    twins = Twins(KONTEXT, tiny(KONTEXT.name), quantization=quantization)
    edit = edits_of(KONTEXT)[1]
    subject = twins.request(edit, "subject")
    loop = DenoiseLoop(twins.editor, Capacity(4), determinism=determinism)
    seen = {
        in_random_company(loop, subject, neighbours_of(twins, edit, seed), samples=4, seed=seed)
        for seed in range(2)
    }
    assert len(seen) == 1


def test_a_folder_whose_weights_are_quantised_is_edited_with_as_it_is(
    tiny: Callable[[str], Path], tmp_path: Path, torchao: None
) -> None:
    """As diffusers saved it; asked for once more, quantisation is refused."""
    twins = Twins(KONTEXT, tiny(KONTEXT.name), quantization="int8")
    folder = Path(shutil.copytree(twins.folder, tmp_path / "saved"))
    shutil.rmtree(folder / "transformer")
    denoiser_of(twins.editor).save_pretrained(folder / "transformer")  # type: ignore[operator]
    edit = edits_of(KONTEXT)[0]
    assert np.array_equal(edited(Twins(KONTEXT, folder), edit), edited(twins, edit))
    config = EngineConfig(device="cpu", quantization="float8")
    with pytest.raises(ModelError, match=r"transformer is quantised already.*leave it out"):
        load_model(find_model(str(folder)), config)


def test_a_lora_beside_quantised_layers_moves_an_edit_as_beside_others(
    tiny: Callable[[str], Path], tmp_path: Path, torchao: None
) -> None:
    plain = Twins(KONTEXT, tiny(KONTEXT.name))
    twins = Twins(KONTEXT, plain.folder, quantization="int8")
    tensors = lora.as_peft("transformer", lora.halves(denoiser_of(plain.editor), seed=1))
    adapter = find_adapter("film", lora.save(tmp_path / "film.safetensors", tensors))
    edit = edits_of(KONTEXT)[0]
    expected, styled = edited(plain, edit, adapter), edited(twins, edit, adapter)
    moved = np.abs(edited(plain, edit) - expected).mean()
    assert 0 < np.abs(styled - expected).mean() < 0.2 * moved


@pytest.mark.parametrize(
    ("quantization", "package"),
    [("int8", "torchao"), ("float8", "torchao"), ("nf4", "bitsandbytes")],
)
def test_where_its_package_is_missing_it_is_refused_in_one_line(
    quantization: Quantization, package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ModelError) as refused:
        check_quantization(quantization, torch.device("cuda"))
    assert str(refused.value) == (
        f"quantization {quantization} needs {package}, which is not installed: "
        f"pip install 'rayedit[{package}]'"
    )


def test_four_bits_are_refused_on_a_cpu_before_anything_is_fetched() -> None:
    config = EngineConfig(model="flux-kontext", device="cpu", quantization="nf4")
    with pytest.raises(ModelError, match=r"nf4 needs a GPU.*cpu: take int8 or float8"):
        load_model(config.find_model(), config)


def test_a_calibration_is_of_one_kind_of_weights() -> None:
    config = EngineConfig(num_threads=1, quantization="int8")
    found = cost_settings(config, torch.device("cpu"))
    assert found == "1 threads, channels_last, quantization int8"
