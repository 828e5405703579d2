"""A recipe makes the picture again: what was asked for, as a command that a shell reads."""

from __future__ import annotations

import io
import shlex
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer.main
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from cli.main import app
from engine.adapter import Adapter
from engine.catalogue import MODELS
from engine.config import EngineConfig
from engine.errors import EngineError, InstructionError, ModelError
from engine.images import decode, encode
from engine.options import EditOptions, ResolvedOptions
from engine.png import text_of
from engine.recipe import ENGINE_FLAGS, command_of, edit_words, engine_words, read_command
from engine.registry import find_model
from engine.spec import ModelSpec
from engine.styles import INSTRUCTION, own_instruction
from engine.text import clean_instruction
from engine.weights import find_revision

POCKET = MODELS["pocket"]
FAMILY = {
    "strength": 0.5,
    "guidance_scale": 3.25,
    "image_guidance_scale": 1.1,
    "negative_prompt": 'blue, "grainy" $HOME',
    "true_cfg_scale": 2.0,
    "controlnet_conditioning_scale": 0.7,
    "control_guidance_end": 0.5,
    "canny_low_threshold": 50,
}
SHARED: list[dict[str, Any]] = [
    {},
    {"scheduler": "euler", "quality": "high", "num_images": 3, "strict_language": True},
    {"num_inference_steps": 3, "size": "64x96", "restore_size": False, "detail": "model"},
    {"resize": "pad", "restore_size": True, "preserve": "auto", "background": "transparent"},
    {"repair": "both", "measures": "full"},
]


def parsed(line: str) -> dict[str, Any]:
    """The parameters of `rayedit edit` as its own parser reads them from a line."""
    words = shlex.split(line)
    assert words[:2] == ["rayedit", "edit"]
    command = typer.main.get_command(app).commands["edit"]  # type: ignore[attr-defined]
    found = command.make_context("edit", words[2:]).params
    return {name: value for name, value in found.items() if value not in (None, ())}


def options_in(line: str) -> EditOptions:
    given = parsed(line)
    names = EditOptions.model_fields.keys() & given.keys()
    return EditOptions.parse({name: given[name] for name in names}, strict=False)


def what_counts(options: ResolvedOptions) -> dict[str, Any]:
    of_none = {"strict_language", "return_mask", "measures"}
    return options.model_dump(exclude={"seed", "num_images", "quality", "style", *of_none})


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("shared", range(len(SHARED)))
def test_the_command_of_an_edit_asks_for_that_edit(name: str, shared: int) -> None:
    spec = MODELS[name]
    more = {option: FAMILY[option] for option in FAMILY if spec.has(option)} if shared else {}
    options = dict(SHARED[shared])
    if "size" in options:
        options["size"] = f"{4 * spec.multiple}x{2 * spec.multiple}"
    resolved = spec.resolve(EditOptions.parse({**options, **more}), seed=1)
    line = command_of(edit_words("夜景, please", resolved, spec), (), seed=9)
    again = spec.resolve(options_in(line), seed=2)
    assert what_counts(again) == what_counts(resolved)
    assert (again.seed, again.num_images) == (9, 1)
    assert parsed(line)["instruction"] == "夜景, please"
    assert read_command(line) == shlex.split(line)


@given(st.text(min_size=1, max_size=40))
def test_every_instruction_comes_back_from_its_line(text: str) -> None:
    try:
        instruction = clean_instruction(text)
    except InstructionError:
        return
    line = command_of(edit_words(instruction, POCKET.resolve(EditOptions(), 1), POCKET), (), 1)
    assert clean_instruction(parsed(line)["instruction"]) == instruction
    words = read_command(line)
    assert words is not None and command_of(words[2:-2], (), 1) == line


def test_a_shell_reads_the_words_that_were_meant() -> None:
    texts = ['it\'s "night"', "$(rm -rf ~); `id` & # no", "-5 degrees", "两行\n\t夜景", "\\ * ?"]
    for text in texts:
        line = command_of(edit_words(text, POCKET.resolve(EditOptions(), 1), POCKET), (), 1)
        said = subprocess.run(
            ["sh", "-c", line.replace("rayedit edit", "printf '%s\\0'", 1)],
            capture_output=True,
            check=True,
        )
        assert said.stdout.decode().split("\0")[:-1] == shlex.split(line)[2:]


@pytest.mark.parametrize(
    "line",
    [
        "a cat, masterpiece\nSteps: 20, Sampler: Euler a",
        "rayedit edit SOURCE x -o OUTPUT.png; rm -rf ~",
        "rayedit edit SOURCE x -o OUTPUT.png --seed 1 && id",
        "rayedit edit SOURCE x -o /etc/passwd --seed 1",
        "rayedit edit SOURCE x -o OUTPUT.png -o ~/.bashrc",
        "rayedit edit SOURCE x -o OUTPUT.png --config theirs.yaml",
        "rayedit edit SOURCE x -o OUTPUT.png --mask /etc/passwd",
        "rayedit edit SOURCE x y -o OUTPUT.png",
        "rayedit edit /etc/passwd x -o OUTPUT.png",
        "rayedit batch SOURCE x -o OUTPUT.png",
        "rayedit edit SOURCE '\x1b[2J' -o OUTPUT.png",
        "rayedit edit SOURCE 'x -o OUTPUT.png",
        "rayedit edit SOURCE x -o OUTPUT.png --seed",
        "",
    ],
)
def test_a_line_that_a_stranger_wrote_is_no_recipe(line: str) -> None:
    assert read_command(line) is None


def test_no_file_is_named_but_how_many_there_were() -> None:
    klein = MODELS["flux2-klein"]
    options = klein.resolve(EditOptions(), 1)
    words = edit_words("add fog", options, klein, images=2, has_mask=True)
    assert words[:9] == (
        *("SOURCE", "add fog", "-o", "OUTPUT.png", "--mask", "MASK"),
        *("--image", "IMAGE", "--image"),
    )


def test_a_style_is_written_out_and_one_with_a_lora_named_with_what_the_edit_said() -> None:
    adapter = Adapter("film", "film.safetensors", "0" * 64, "a photo on film, {instruction}")
    spec = ModelSpec(**{**vars_of(POCKET), "styles": {"film": adapter}})
    styled = spec.resolve(EditOptions(style="film"), 1)
    words = edit_words("a photo on film, add fog", styled, spec)
    assert words[1] == "add fog"
    assert words[words.index("--style") + 1] == "film" and "--lora-scale" in words
    plain = edit_words("turn it into a sketch", POCKET.resolve(EditOptions(style="s"), 1), POCKET)
    assert plain[1] == "turn it into a sketch" and "--style" not in plain


def vars_of(spec: ModelSpec) -> dict[str, Any]:
    return {name: getattr(spec, name) for name in ModelSpec.__dataclass_fields__}


@given(
    own=st.text("añ夜 {}-", min_size=1, max_size=9).filter(lambda text: text.strip() == text),
    parts=st.lists(st.text("x, 夜", max_size=5), min_size=1, max_size=4),
)
def test_what_an_edit_said_is_found_in_what_its_template_made_of_it(
    own: str, parts: list[str]
) -> None:
    template = INSTRUCTION.join(parts)
    try:
        made = clean_instruction(template.replace(INSTRUCTION, own))
        clean_instruction(template)
    except InstructionError:
        return
    assert own_instruction(made, template) == (own if len(parts) > 1 else "")


def test_what_edits_is_named_with_its_revision_and_the_settings_that_show() -> None:
    revision = find_revision(POCKET)
    plain = engine_words(EngineConfig(), POCKET, revision)
    assert plain == ("--model", f"pocket@{revision[:12]}")
    settings = {"resolution": 64, "determinism": "strict", "num_threads": 1, "device": "cpu"}
    told = engine_words(EngineConfig(**settings), POCKET, revision)
    assert told == (*plain, "--resolution", "64", "--determinism", "strict")
    joined = engine_words(EngineConfig(), MODELS["sd15-canny"], f"{'a' * 40}+{'b' * 64}")
    assert joined[1] == f"sd15-canny@{'a' * 40}+{'b' * 12}"
    line = command_of(edit_words("x", POCKET.resolve(EditOptions(), 1), POCKET), told, 1)
    assert {name: parsed(line)[name] for name in ("resolution", "determinism")} == {
        name: settings[name] for name in ("resolution", "determinism")
    }
    assert set(ENGINE_FLAGS) <= EngineConfig.model_fields.keys()


def test_a_model_may_be_pinned_to_its_weights(tiny: Callable[[str], Path]) -> None:
    folder = tiny("instruct-pix2pix")
    for name in ("pocket", str(folder)):
        revision = find_revision(find_model(name))
        pinned = find_model(f"{name}@{revision[:12]}", 64)
        assert find_revision(pinned) == revision
        assert pinned.identity() == find_model(name, 64).identity()
        with pytest.raises(ModelError, match="other weights than were asked for"):
            find_revision(find_model(f"{name}@0123456789ab"))
    canny = find_model("sd15-canny@aaaa+bbbb")
    assert (canny.revision, dict(canny.parts)) == (
        "aaaa",
        {"controlnet": "lllyasviel/sd-controlnet-canny@bbbb"},
    )
    with pytest.raises(EngineError, match='Did you mean "pocket"'):
        find_model("pockte@1234")


def test_a_png_carries_its_command_in_utf8_and_nothing_of_the_source() -> None:
    icc = b"none"
    pixels = np.arange(48 * 32 * 3, dtype=np.uint8).reshape(32, 48, 3)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=100, comment="a secret", icc_profile=icc)
    image = decode(file.getvalue()).image
    line = "rayedit edit SOURCE '变成夜晚' -o OUTPUT.png"
    data = encode(image, "png", command=line)
    assert text_of(data) == line
    assert b"iTXt" in data and line.encode() in data
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(data))), np.asarray(image))
    assert text_of(encode(image)) is None
    for format in ("png", "jpeg", "webp"):
        made = encode(image, format, command=line)
        info = Image.open(io.BytesIO(made)).info
        assert "comment" not in info and b"a secret" not in made and "icc_profile" not in info
        assert (b"rayedit" in made) == (format == "png")
