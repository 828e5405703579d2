"""A LoRA file that cannot be used is refused by name, each kind of fault in its own line."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from engine.adapter import Adapter, find_adapter
from engine.adapters import Adapters
from engine.config import EngineConfig
from engine.errors import AdapterUnusable, ModelError, OptionInvalid
from engine.loading import load_model
from engine.models import Adapting, Editor
from engine.spec import ModelSpec
from tests.engine.test_family import Toy
from tests.tiny import lora

LAYER = "unet.conv_in"
GOOD = {
    f"{LAYER}.lora_A.weight": torch.ones(2, 32, 3, 3),
    f"{LAYER}.lora_B.weight": torch.ones(64, 2, 1, 1),
}


def without(name: str) -> dict[str, torch.Tensor]:
    return {key: tensor for key, tensor in GOOD.items() if name not in key}


def pickled(file: Path) -> None:
    torch.save(GOOD, file)


def cut(file: Path) -> None:
    save_file(GOOD, file)
    file.write_bytes(file.read_bytes()[:-7])


def empty(file: Path) -> None:
    file.mkdir()


def saved(tensors: dict[str, torch.Tensor]) -> Callable[[Path], object]:
    return lambda file: save_file(tensors, file)


BAD: dict[str, tuple[Callable[[Path], object], str]] = {
    "missing": (lambda file: None, "is not there"),
    "a folder without one": (empty, "holds none of pytorch_lora_weights.safetensors and"),
    "a pickle of torch": (pickled, "is a pickle, which can run code: save it as safetensors"),
    "a pickle": (lambda f: f.write_bytes(pickle.dumps({})), "is a pickle"),
    "cut": (cut, "is damaged, or no safetensors file"),
    "Git LFS' pointer": (
        lambda f: f.write_text(
            "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n"
        ),
        "is Git LFS' pointer to the weights: run `git lfs pull` there",
    ),
    "text": (lambda f: f.write_text("lora " * 99), "is damaged, or no safetensors file"),
    "a whole model": (saved({"conv_in.weight": torch.ones(2)}), "is no LoRA: it holds conv_in"),
    "a text encoder's": (
        saved({**GOOD, "text_encoder.q.lora_A.weight": torch.ones(2, 2)}),
        r"changes the text encoder too \(1 tensors, such as text_encoder\.q",
    ),
    "kohya's text encoder's": (
        saved({**GOOD, "lora_te1_q.lora_down.weight": torch.ones(2, 2)}),
        "changes the text encoder too",
    ),
    "a DoRA": (saved({**GOOD, "lora_unet_a.dora_scale": torch.ones(2)}), "is a DoRA"),
    "a LoKr": (saved({"unet.a.lokr_w1": torch.ones(2)}), r"is a LoKr \(unet\.a\.lokr_w1\)"),
    "half of a pair": (saved(without("lora_B")), "lacks unet.conv_in.lora_B.weight, half of"),
    "the other half": (saved(without("lora_A")), "lacks unet.conv_in.lora_A.weight, half of"),
    "two ranks": (
        saved({**GOOD, f"{LAYER}.lora_B.weight": torch.ones(64, 3, 1, 1)}),
        r"has a rank of \[2, 32, 3, 3\] .* and of \[64, 3, 1, 1\]",
    ),
    "more": (saved({**GOOD, "unet.conv_in.bias": torch.ones(2)}), "holds unet.conv_in.bias, which"),
}


@pytest.mark.parametrize("kind", BAD)
def test_a_file_that_no_model_could_use_is_refused_before_any_model_is_loaded(
    kind: str, tmp_path: Path
) -> None:
    write, reason = BAD[kind]
    file = tmp_path / "style.safetensors"
    write(file)
    with pytest.raises(AdapterUnusable, match=reason) as caught:
        find_adapter("film", file)
    message = caught.value.message
    assert message.startswith(f"style film: the LoRA {tmp_path}")
    assert "\n" not in message
    assert caught.value.param == "style"


def test_a_folder_is_the_one_file_that_diffusers_or_peft_saved_in_it(tmp_path: Path) -> None:
    file = tmp_path / "pytorch_lora_weights.safetensors"
    save_file(GOOD, file)
    found = find_adapter("film", tmp_path)
    assert found.path == str(file)
    assert found == find_adapter("film", file)
    save_file(GOOD, tmp_path / "adapter_model.safetensors")
    with pytest.raises(AdapterUnusable, match="holds 2 of"):
        find_adapter("film", tmp_path)


def pair(name: str, down: torch.Tensor, up: torch.Tensor) -> dict[str, torch.Tensor]:
    return {f"unet.{name}.lora_A.weight": down, f"unet.{name}.lora_B.weight": up}


DOWN = f"{LAYER}.lora_A.weight"
FLUX = "lora_unet_double_blocks_0_img_mod_lin"
OF_ANOTHER: list[tuple[dict[str, torch.Tensor], str]] = [
    (pair("nowhere", torch.ones(2, 2), torch.ones(2, 2)), "is of another model"),
    (
        GOOD | pair("x", torch.ones(1, 2), torch.ones(2, 1)),
        "is of another model: this one has no layer x",
    ),
    (
        GOOD | {DOWN: torch.ones(2, 8, 3, 3)},
        r"is of another model: its conv_in is \[64, 8, 3, 3\], and this one's is \[64, 32, 3, 3\]",
    ),
    (
        GOOD | {DOWN: torch.full((2, 32, 3, 3), torch.nan)},
        r"holds NaN or infinity in unet\.conv_in\.lora_A\.weight",
    ),
    (
        {f"{FLUX}.lora_down.weight": torch.ones(1, 2), f"{FLUX}.lora_up.weight": torch.ones(2, 1)},
        "is of another model",
    ),
]


@pytest.fixture(scope="module")
def editor(pocket: ModelSpec) -> Editor:
    return load_model(pocket, EngineConfig(device="cpu")).editor


def held(editor: Editor, folder: Path, tensors: dict[str, torch.Tensor]) -> None:
    adapter = find_adapter("film", lora.save(folder / "film.safetensors", tensors))
    Adapters(editor).hold(adapter)


@pytest.mark.parametrize(("tensors", "reason"), OF_ANOTHER)
def test_a_lora_of_another_base_is_refused_when_it_is_loaded(
    editor: Editor, tmp_path: Path, tensors: dict[str, torch.Tensor], reason: str
) -> None:
    with pytest.raises(AdapterUnusable, match=f"style film: the LoRA film.safetensors {reason}"):
        held(editor, tmp_path, tensors)


def test_a_file_that_has_changed_or_gone_since_it_was_named_is_refused(
    editor: Editor, tmp_path: Path
) -> None:
    file = lora.save(tmp_path / "film.safetensors", GOOD)
    adapter = find_adapter("film", file)
    held(editor, tmp_path, {name: 2 * tensor for name, tensor in GOOD.items()})
    with pytest.raises(AdapterUnusable, match="has changed since it was named: start again"):
        Adapters(editor).hold(adapter)
    file.unlink()
    with pytest.raises(AdapterUnusable, match=r"cannot be read .*No such file"):
        Adapters(editor).hold(adapter)


def test_one_that_is_larger_than_all_may_be_is_refused(editor: Editor, tmp_path: Path) -> None:
    adapter = find_adapter("film", lora.save(tmp_path / "film.safetensors", GOOD))
    with pytest.raises(AdapterUnusable, match=r"takes 0\.0 MB, .* raise lora_memory_mb"):
        Adapters(editor, max_bytes=2000).hold(adapter)
    assert Adapters(editor, max_bytes=4000).hold(adapter).nbytes == 4 * (2 * 32 * 9 + 2 * 64)


def test_where_no_layer_can_be_hooked_a_styled_edit_is_refused_by_name(editor: Editor) -> None:
    adapter = Adapter("film", "film.safetensors", "")
    for setting in ("cuda_graphs", "compile"):
        with pytest.raises(OptionInvalid, match=f"none can be applied with {setting}") as caught:
            Adapters(editor, frozen_by=setting).check(adapter)
        assert caught.value.param == "style"
    with pytest.raises(OptionInvalid, match="style film has a LoRA, and model toy takes none"):
        Adapters(Toy()).check(adapter)  # type: ignore[arg-type]
    Adapters(Toy(), frozen_by="compile").check(None)  # type: ignore[arg-type]


def test_an_actor_whose_model_has_an_unusable_lora_does_not_start(
    pocket: ModelSpec, tmp_path: Path
) -> None:
    from engine import EditActor

    wrong = {**GOOD, f"{LAYER}.lora_A.weight": torch.ones(2, 8, 3, 3)}
    adapter = find_adapter("film", lora.save(tmp_path / "film.safetensors", wrong))
    with pytest.raises(ModelError, match=r"style film: the LoRA film\.safetensors is of another"):
        EditActor(EngineConfig(), replace(pocket, styles={"film": adapter}))


def test_a_unet_takes_adapters(editor: Editor) -> None:
    assert isinstance(editor, Adapting)
