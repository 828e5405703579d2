"""`import rayedit`: what a notebook does with it."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import rayedit
from engine.recipe import read_command
from tests.conftest import jpeg, photograph, png
from tests.engine.files import saved

NIGHT = "make it night"
FEW = {"num_inference_steps": 2, "seed": 7}


@pytest.fixture(scope="module")
def editor() -> Iterator[rayedit.Editor]:
    with rayedit.Editor(
        "pocket", resolution=64, determinism="strict", num_threads=1, accept=["gif"]
    ) as editor:
        yield editor


def pixels(image: Image.Image | rayedit.EditFailure) -> np.ndarray:
    assert isinstance(image, Image.Image), image
    return np.asarray(image)


def test_a_file_its_bytes_its_image_and_its_array_give_one_picture(
    editor: rayedit.Editor, tmp_path: Path
) -> None:
    path = tmp_path / "coffee.png"
    path.write_bytes(png(photograph("coffee")))
    sources = [path, str(path), path.read_bytes(), Image.open(path), photograph("coffee")]
    first, *others = [pixels(editor.edit(source, NIGHT, **FEW)) for source in sources]
    assert all((other == first).all() for other in others)
    assert (first != pixels(editor.edit(path, "add fog", **FEW))).any()


def test_an_opened_photograph_is_edited_upright(editor: rayedit.Editor) -> None:
    turned = Image.open(io.BytesIO(jpeg(photograph("coffee"))))
    exif = turned.getexif()
    exif[0x0112] = 6  # to be turned by a quarter
    buffer = io.BytesIO()
    turned.save(buffer, "JPEG", exif=exif)
    edited = editor.edit(Image.open(buffer), NIGHT, **FEW)
    assert (edited.width, edited.height) == (400, 600)
    assert (pixels(edited) == pixels(editor.edit(buffer.getvalue(), NIGHT, **FEW))).all()


def test_the_seed_that_was_drawn_is_told_and_replays(editor: rayedit.Editor) -> None:
    coffee = photograph("coffee")
    drawn = editor.edit(coffee, NIGHT, num_inference_steps=2)
    again = editor.edit(coffee, NIGHT, num_inference_steps=2, seed=drawn.info["seed"])
    assert (pixels(drawn) == pixels(again)).all()


def test_an_edit_says_how_it_was_made(editor: rayedit.Editor) -> None:
    line = editor.edit(photograph("coffee"), NIGHT, **FEW).info["parameters"]
    words = read_command(line)
    assert words is not None and words[3] == NIGHT and words[-2:] == ["--seed", "7"]


def test_another_format_is_taken_where_the_editor_accepts_it(editor: rayedit.Editor) -> None:
    coffee = Image.fromarray(photograph("coffee")).resize((96, 64))
    assert editor.edit(saved(coffee, "GIF"), NIGHT, **FEW).size == (96, 64)
    with pytest.raises(rayedit.EngineError, match="a BMP image; send JPEG, PNG, WebP or GIF"):
        editor.edit(saved(coffee, "BMP"), NIGHT, **FEW)
    with pytest.raises(rayedit.EngineError, match='"psd" is none of'):
        rayedit.Editor(accept=["psd"])


def test_a_transparent_image_may_be_transparent_again(editor: rayedit.Editor) -> None:
    clear = Image.fromarray(photograph("coffee")).resize((96, 64))
    clear.putalpha(Image.linear_gradient("L").resize((96, 64)))
    made = editor.edit(clear, NIGHT, background="transparent", **FEW)
    assert (np.asarray(made)[..., 3] == np.asarray(clear)[..., 3]).all()
    assert editor.edit(clear, NIGHT, **FEW).mode == "RGB"


def test_a_style_may_be_the_whole_instruction(editor: rayedit.Editor) -> None:
    coffee, few = photograph("coffee"), {"num_inference_steps": 2}
    said = editor.edit(coffee, "turn it into a pencil sketch", seed=42, **few)
    assert (pixels(editor.edit(coffee, style="sketch", **few)) == pixels(said)).all()
    with pytest.raises(rayedit.EngineError, match="instruction is empty"):
        editor.edit(coffee, **few)


def test_one_that_fails_costs_the_others_nothing(editor: rayedit.Editor) -> None:
    coffee = photograph("coffee")
    edits = editor.edit_many(
        [coffee, b"no image", coffee], NIGHT, num_inference_steps=2, seed=[1, 2, 3]
    )
    assert isinstance(edits[1], rayedit.EditFailure)
    assert edits[1].code == "image_unsupported"
    alone = editor.edit(coffee, NIGHT, num_inference_steps=2, seed=3)
    assert (pixels(edits[2]) == pixels(alone)).all()
    assert (pixels(edits[0]) != pixels(alone)).any()


def test_each_image_may_have_its_instruction(editor: rayedit.Editor) -> None:
    coffee = photograph("coffee")
    night, fog = editor.edit_many([coffee, coffee], [NIGHT, "add fog"], **FEW)
    assert (pixels(night) != pixels(fog)).any()
    with pytest.raises(rayedit.EngineError, match="instructions: 1 values for 2 images"):
        editor.edit_many([coffee, coffee], [NIGHT])


@pytest.mark.parametrize(
    ("image", "options", "code"),
    [
        ("missing.jpg", {}, "image_not_found"),
        (b"", {}, "image_missing"),
        (np.zeros((64, 64)), {}, "option_invalid"),
        (np.zeros((64, 64, 3)), {}, "option_invalid"),
        (7, {}, "option_invalid"),
        (None, {"guidence_scale": 3}, "option_unknown"),
        (None, {"num_images": 2}, "option_invalid"),
        (None, {"num_inference_steps": 0}, "option_invalid"),
        (None, {"references": ["missing.jpg"]}, "option_invalid"),
    ],
)
def test_what_cannot_be_done_is_raised_by_its_code(
    editor: rayedit.Editor, image: object, options: dict[str, object], code: str
) -> None:
    source = photograph("coffee") if image is None else image
    with pytest.raises(rayedit.EngineError) as caught:
        editor.edit(source, NIGHT, **options)  # type: ignore[arg-type]
    assert caught.value.code == code


def test_the_model_of_a_call_stays_loaded_until_another_is_asked_for() -> None:
    coffee = photograph("coffee")
    first = rayedit.edit(coffee, NIGHT, num_inference_steps=1, seed=1)
    assert (
        pixels(first) == pixels(rayedit.edit(coffee, NIGHT, num_inference_steps=1, seed=1))
    ).all()
    with pytest.raises(rayedit.EngineError, match="there is no model"):
        rayedit.edit(coffee, NIGHT, model="no-model")
