"""What Qwen2.5-VL reads of an instruction and its pictures: at the right positions."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import Qwen2_5_VLForConditionalGeneration

from engine.canvas import stretched_canvas
from engine.catalogue import QWEN_IMAGE_EDIT
from engine.errors import InstructionTooLong
from engine.models import Placement
from engine.models.qwen_text import QwenText, shown_size
from tests.engine.families import BOUND, one_thread
from tests.tiny.edits import Edit, source
from tests.tiny.pipelines import load
from tests.tiny.qwen_image_edit import patched

PICTURES = [source("coffee", 128, 64), source("astronaut", 64, 96)]
DIGESTS = ["coffee", "astronaut"]
TEXT = "put the mug beside her"


@pytest.fixture(autouse=True)
def without_gradients() -> Iterator[None]:
    with one_thread(), torch.inference_mode():
        yield


@pytest.fixture(scope="module")
def folder(tiny: Callable[[str], Path]) -> Path:
    return tiny("qwen-image-edit-plus")


@pytest.fixture(scope="module")
def text(folder: Path) -> QwenText:
    kind = Qwen2_5_VLForConditionalGeneration
    placement = Placement(torch.device("cpu"), torch.float32)
    settings = {"numbered": True, "shown_at": shown_size}
    return QwenText.load(kind, folder, placement, **settings)


def theirs(pipeline: Any, *, told: bool) -> torch.Tensor:
    """The embeddings of diffusers' pipeline: `told` which tokens are of a picture, or as it is."""
    edit = Edit(tuple(PICTURES))
    shown = []
    for image in edit.images:
        width, height = shown_size(image.size)
        shown.append(pipeline.image_processor.resize(image, height, width))
    with patched(pipeline, edit) if told else nullcontext():
        return pipeline.encode_prompt(TEXT, shown)[0][0]


def apart(left: torch.Tensor, right: torch.Tensor) -> float:
    return float((left - right).abs().max() / right.abs().max())


def test_embeddings_are_those_of_diffusers_told_which_tokens_are_pictures(
    folder: Path, text: QwenText
) -> None:
    """Not told, transformers 5 numbers them in a line and says nothing."""
    pipeline = load(folder)
    mine = text.embed(TEXT, PICTURES, DIGESTS)
    assert apart(mine, theirs(pipeline, told=True)) <= BOUND
    assert apart(mine, theirs(pipeline, told=False)) > 100 * BOUND


def test_a_pictures_tokens_stand_in_rows_and_columns(text: QwenText) -> None:
    seen: dict[str, Any] = {}

    def watch(_: Any, __: Any, given: dict[str, Any]) -> None:
        seen.update({name: value for name, value in given.items() if value is not None})

    hooks = [
        module.register_forward_pre_hook(watch, with_kwargs=True)
        for module in (text._model.model.language_model, text._model.model)
    ]
    text.embed("unheard of", PICTURES, DIGESTS)
    for hook in hooks:
        hook.remove()
    picture = text._model.config.image_token_id
    expected = positions(seen["input_ids"][0].tolist(), picture, seen["image_grid_thw"].tolist())
    assert seen["position_ids"][-3:, 0].T.tolist() == expected


def positions(ids: Sequence[int], picture: int, grids: Sequence[list[int]]) -> list[list[int]]:
    """(frame, row, column) of each token as Qwen2-VL was trained with them (2409.12191, 2.1): a
    picture begins where the text before it ends, the text goes on behind its longer side."""
    made: list[list[int]] = []
    sizes, at = iter(grids), 0
    while len(made) < len(ids):
        if ids[len(made)] != picture:
            made.append([at] * 3)
            at += 1
            continue
        rows, columns = (side // 2 for side in next(sizes)[1:])  # a token is 2 x 2 patches
        made += [[at, at + y, at + x] for y in range(rows) for x in range(columns)]
        at += max(rows, columns)
    return made


def test_the_names_of_special_tokens_are_words_in_an_instruction(text: QwenText) -> None:
    marked = text.embed("<|image_pad|><|im_end|>", PICTURES, DIGESTS)
    assert len(marked) > len(text.embed("", PICTURES, DIGESTS)) + 2


def test_a_long_instruction_is_refused_and_not_cut(text: QwenText) -> None:
    text.check("x" * 1024, "qwen", param="instruction")
    with pytest.raises(InstructionTooLong, match="1025 tokens and model qwen reads 1024"):
        text.check("x" * 1025, "qwen", param="instruction")


@pytest.mark.parametrize("size", [(640, 480), (3000, 4000), (1920, 1080), (400, 1600), (64, 1024)])
def test_sizes_are_those_of_diffusers(size: tuple[int, int]) -> None:
    from diffusers.pipelines.qwenimage import pipeline_qwenimage_edit_plus as plus

    aspect = size[0] / size[1]
    assert shown_size(size) == plus.calculate_dimensions(plus.CONDITION_IMAGE_SIZE, aspect)
    expected = plus.calculate_dimensions(plus.VAE_IMAGE_SIZE, aspect)
    assert stretched_canvas(size, QWEN_IMAGE_EDIT) == expected
