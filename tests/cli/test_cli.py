"""The command as a user meets it: a process, its output, its exit code."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner

import engine
from cli.main import app, main
from engine.catalogue import MODELS

ROOT = Path(__file__).parent.parent.parent
SMALL = "resolution: 64\ndeterminism: strict\nnum_threads: 1\n"


def rayedit(*arguments: str | Path, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "80", "NO_COLOR": "1"}
    command = [sys.executable, "-m", "cli.main", *map(str, arguments)]
    return subprocess.run(
        command, capture_output=True, text=True, cwd=cwd, env=environment, check=False
    )


def printed_here(*arguments: str | Path) -> str:
    """What the command prints in this process, whose imports are most of its time."""
    done = CliRunner().invoke(app, list(map(str, arguments)))
    if done.exception is not None:
        raise done.exception
    return done.output


@pytest.fixture
def photo(tmp_path: Path, photographs: dict[str, bytes]) -> Path:
    (tmp_path / "coffee.jpg").write_bytes(photographs["coffee"])
    (tmp_path / "small.yaml").write_text(SMALL)
    (tmp_path / "text.yaml").write_text("engine: pocket\n")
    (tmp_path / "typo.yaml").write_text("engine: {modle: pocket}\n")
    (tmp_path / "wrong.yaml").write_text("x: {tempalte: y}\n")
    (tmp_path / "styles.yaml").write_text("styles: wrong.yaml\n")
    (tmp_path / "lost.yaml").write_text("engine: {styles: none.yaml}\n")
    (tmp_path / "warm.yaml").write_text("x: {model: pocket, lora: coffee.jpg}\n")
    (tmp_path / "lora.yaml").write_text("engine: {styles: warm.yaml}\n")
    (tmp_path / "soft.yaml").write_text("grain: {negative_prompt: grain}\n")
    (tmp_path / "grain.yaml").write_text("engine: {model: flux2-klein, styles: soft.yaml}\n")
    (tmp_path / "a.csv").write_text("image,instruction\ncoffee.jpg,add fog\n")
    return tmp_path / "coffee.jpg"


def test_an_edit_is_written_and_its_seed_replays_it(photo: Path) -> None:
    folder = photo.parent
    few = ("--config", folder / "small.yaml", "--num-inference-steps", "3")
    first = rayedit("edit", photo, "make it night", "-o", folder / "a.png", *few)
    assert first.returncode == 0, first.stderr
    seed = first.stdout.split("seed ")[1].split(",")[0]
    again = rayedit("edit", photo, "make it night", "-o", folder / "b.png", *few, "--seed", seed)
    assert again.returncode == 0, again.stderr
    assert (folder / "a.png").read_bytes() == (folder / "b.png").read_bytes()
    assert Image.open(folder / "a.png").size == (600, 400)  # the photograph's own


def test_a_calibration_that_could_not_be_written_is_refused_before_it_is_measured(
    tmp_path: Path,
) -> None:
    done = rayedit("calibrate", "-o", tmp_path / "missing" / "x.yaml")
    assert done.returncode == 2
    assert "x.yaml: name a file in a folder that exists" in done.stderr
    assert done.stdout == ""


@pytest.mark.slow
def test_the_options_of_an_edit_reach_the_picture(photo: Path) -> None:
    folder = photo.parent
    few = ("--config", folder / "small.yaml", "--num-inference-steps", "2", "--seed", "1")
    printed_here("edit", photo, "make it night", "-o", folder / "a.jpg", "--restore-size", *few)
    assert Image.open(folder / "a.jpg").size == Image.open(photo).size
    printed_here(
        "edit",
        photo,
        "add fog",
        "-o",
        folder / "b.webp",
        "--size",
        "96x64",
        "--resize",
        "pad",
        "--scheduler",
        "euler_ancestral",
        "--guidance-scale",
        "3",
        *few,
    )
    assert Image.open(folder / "b.webp").format == "WEBP"
    assert max(Image.open(folder / "b.webp").size) == 96


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("edit", "none.jpg", "x", "-o", "a.png"), "none.jpg: No such file"),
        (("edit", "small.yaml", "x", "-o", "a.png"), "not a JPEG, PNG or WebP"),
        (("edit", "coffee.jpg", "x", "-o", "a.gif"), "name a .png, .jpg or .webp"),
        (("edit", "coffee.jpg", " ", "-o", "a.png"), "instruction is empty"),
        (
            ("edit", "coffee.jpg", "x", "-o", "a.png", "--image", "none.jpg"),
            "--image: model pocket takes one source image; got 2",
        ),
        (("edit", "coffee.jpg", "x", "-o", "a.png", "--guidance-scale", "nan"), "finite"),
        (("edit", "coffee.jpg", "x", "-o", "a.png", "--size", "100x64"), "multiples of 16"),
        (("edit", "coffee.jpg", "x", "-o", "a.png", "--model", "pockte"), 'mean "pocket"'),
        (("edit", "coffee.jpg", "x", "-o", "a.png", "--config", "no.yaml"), "cannot read no.yaml"),
        (("edit", "coffee.jpg", "x", "-o", "a.png", "--seed", "-1"), "greater than or equal to 0"),
        (("edit", "coffee.jpg", "very long " * 190, "-o", "a.png"), "make it shorter"),
        (("edit", "coffee.jpg", "-o", "a.png", "--style", "sketsch"), 'Did you mean "sketch"?'),
        (
            ("edit", "coffee.jpg", "-o", "a.png", "--style", "anime", "--model", "pocket"),
            "style anime is of model instruct-pix2pix, and this is pocket",
        ),
        (
            ("edit", "coffee.jpg", "add fog", "-o", "a.png", "--style", "sketch"),
            "style sketch is the whole instruction",
        ),
        (("edit", "coffee.jpg", "-o", "a.png", "--style", "product"), "product needs an instr"),
        (("edit", "coffee.jpg", "-o", "a.png"), "instruction is empty"),
        (
            ("edit", "coffee.jpg", "-o", "a.png", "--style", "x", "--config", "styles.yaml"),
            "wrong.yaml, style x: unknown field",
        ),
        (
            ("edit", "coffee.jpg", "fog", "-o", "a.png", "--style", "x", "--config", "lora.yaml"),
            "coffee.jpg is damaged, or no safetensors file",
        ),
        (
            ("batch", "a.csv", "out", "--style", "x", "--config", "lora.yaml"),
            "coffee.jpg is damaged, or no safetensors file",
        ),
        (
            ("edit", "coffee.jpg", "x", "-o", "a.png", "--lora-scale", "0.5"),
            "lora_scale 0.5 has no effect without a style that has a LoRA",
        ),
        (
            ("batch", "a.csv", "out", "--style", "grain", "--config", "grain.yaml"),
            "style grain: model flux2-klein has no negative_prompt; it takes strength",
        ),
        (("batch", "a.csv", "out", "--style", "sketsch"), 'Did you mean "sketch"?'),
        (
            ("edit", "coffee.jpg", "x", "-o", "a.jpg", "--background", "transparent"),
            "background: a JPEG is opaque",
        ),
        (("edit", "coffee.jpg", "x", "-o", "a.png", "--accept", "psd"), '"psd" is none of avif'),
        (("batch", "a.csv", "out", "--accept", "psd"), '"psd" is none of avif'),
        (
            ("edit", "coffee.jpg", "сделай ночь", "-o", "a.png", "--strict-language"),
            "model pocket does not know the script CYRILLIC",
        ),
        (("show", "coffee.jpg"), "coffee.jpg does not say how it was made"),
        (("batch", "none.parquet", "out"), "no manifest at none.parquet"),
        (("batch", "coffee.jpg", "out"), "cannot be read"),
        (("serve", "--config", "small.yaml"), 'unknown field "resolution"'),
        (("serve", "--config", "lost.yaml"), "cannot read none.yaml"),
        (("serve", "--model", "pocket", "--model", "pocket@1"), '--model: two are named "pocket"'),
        (
            ("serve", "--model", "pocket", "--model", "tiny"),
            'models.tiny: there is no model "tiny"',
        ),
        (("batch", "a.csv", "out", "--config", "text.yaml"), "'pocket' must be keys and values"),
        (
            ("batch", "a.csv", "out", "--config", "typo.yaml"),
            '"engine.modle". Did you mean "model"',
        ),
        (("batch", "a.csv", "out", "--address", "http://head:8265"), "--address or RAY_ADDRESS"),
    ],
)
def test_a_users_mistake_is_one_clear_line(
    photo: Path,
    arguments: tuple[str, ...],
    says: str,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(photo.parent)
    monkeypatch.setattr(sys, "argv", ["rayedit", *arguments])
    with pytest.raises(SystemExit) as ended:  # in this process: its imports are most of the time
        main()
    printed, said = capfd.readouterr()
    assert ended.value.code == 2
    assert says in said
    assert len([line for line in said.splitlines() if line]) == 1
    assert printed == ""


def test_a_mistake_ends_the_process_without_a_traceback(photo: Path) -> None:
    failed = rayedit("edit", photo, " ", "-o", photo.with_suffix(".png"))
    assert failed.returncode == 2
    assert failed.stderr.startswith("rayedit: instruction is empty; ")
    assert failed.stderr.count("\n") == 1


def test_what_cannot_be_read_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "out" / "job.json").mkdir(parents=True)
    failed = rayedit("status", tmp_path / "out")
    assert (failed.returncode, failed.stderr.count("\n")) == (1, 1)
    assert "job.json" in failed.stderr and "Traceback" not in failed.stderr


def test_help_and_version_read_well() -> None:
    assert rayedit("--version").stdout == f"rayedit {engine.__version__}\n"
    overview = rayedit("--help").stdout
    assert all(command in overview for command in ("edit", "batch", "serve", "models"))
    flags = rayedit("edit", "--help").stdout
    for flag in ("--num-inference-steps", "--image-guidance-scale", "--restore-size", "--seed"):
        assert flag in flags
    assert all(len(line) <= 80 for line in (overview + flags).splitlines())


def test_models_are_listed_with_their_defaults() -> None:
    listing = rayedit("models").stdout
    assert "pocket" in listing and "timbrooks/instruct-pix2pix" in listing and "7.5" in listing
    heads, *rows = listing.splitlines()[:-2]
    at = [heads.index(head) for head in heads.split()]
    assert len(rows) == len(MODELS)
    for row in rows:  # every column begins where its head does, behind a gap
        assert all(row[i - 2 : i] == "  " and row[i] != " " for i in at[1:]), row
    (dev,) = (row for row in rows if row.startswith("flux2-dev "))
    assert re.search(r"50.21 B +100.4 GB +141 GB +80 GB ", dev)  # the text encoder on the CPU


def test_styles_are_listed_with_what_they_set_and_for_a_model_those_that_fit() -> None:
    listing = rayedit("styles").stdout
    assert "turn it into a pencil sketch" in listing and "instruct-pix2pix" in listing
    assert "preserve=auto" in listing
    fitting = rayedit("styles", "--model", "pocket").stdout
    assert "sketch" in fitting and "anime" not in fitting


@pytest.mark.slow
def test_a_style_is_an_instruction_and_its_seed(photo: Path) -> None:
    folder = photo.parent
    few = ("--config", folder / "small.yaml", "--num-inference-steps", "1")
    printed_here("edit", photo, "-o", folder / "a.png", "--style", "sketch", *few)
    said = ("turn it into a pencil sketch", "--seed", "42")
    printed_here("edit", photo, "-o", folder / "b.png", *said, *few)
    assert (folder / "a.png").read_bytes() == (folder / "b.png").read_bytes()


def test_several_images_are_files_of_their_own(photo: Path) -> None:
    folder = photo.parent
    few = ("--config", folder / "small.yaml", "--num-inference-steps", "1", "--seed", "1")
    printed_here("edit", photo, "add fog", "-o", folder / "f.png", "--num-images", "2", *few)
    first, second = ((folder / f"f-{k}.png").read_bytes() for k in range(2))
    assert first != second
    assert not (folder / "f.png").exists()
