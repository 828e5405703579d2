"""`rayedit show`: a picture says how it was made, and a shell makes it again."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from engine.errors import OptionInvalid
from engine.images import encode
from tests.cli.test_cli import ROOT, printed_here, rayedit
from tests.engine.files import saved

SMALL = Image.new("RGB", (16, 16), "teal")
LINE = "rayedit edit SOURCE '变成夜晚' -o OUTPUT.png --seed 7"


def shown(*arguments: str | Path) -> str:
    return printed_here("show", *arguments).strip()


def test_a_shell_that_runs_what_is_shown_makes_the_same_bytes(
    tmp_path: Path, photographs: dict[str, bytes]
) -> None:
    photo = tmp_path / "a photo.jpg"
    photo.write_bytes(photographs["coffee"])
    (tmp_path / "small.yaml").write_text("resolution: 64\ndeterminism: strict\n")
    asked = (
        "edit",
        photo,
        "把天空变成粉色",
        "-o",
        tmp_path / "a.png",
        "--num-inference-steps",
        "2",
    )
    first = rayedit(*asked, "--config", tmp_path / "small.yaml")
    assert first.returncode == 0, first.stderr
    line = shown(tmp_path / "a.png", "--source", photo, "-o", tmp_path / "b.png")
    command = tmp_path / "rayedit"
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m cli.main "$@"\n')
    command.chmod(0o755)
    environment = {
        **os.environ,
        "PATH": f"{tmp_path}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
    }
    again = subprocess.run(
        ["sh", "-c", line], env=environment, cwd=tmp_path, capture_output=True, check=False
    )
    assert again.returncode == 0, again.stderr
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def test_files_are_filled_in_and_quoted(tmp_path: Path) -> None:
    picture = tmp_path / "night.png"
    picture.write_bytes(encode(SMALL, command=LINE))
    assert shown(picture) == LINE
    filled = shown(picture, "--source", "it's.jpg", "-o", "a b.png")
    words = ["rayedit", "edit", "it's.jpg", "变成夜晚", "-o", "a b.png", "--seed", "7"]
    assert shlex.split(filled) == words and "'a b.png'" in filled


def test_a_file_that_says_nothing_or_another_programs_words_is_told_of(tmp_path: Path) -> None:
    picture = tmp_path / "a.png"
    for data in (encode(SMALL), saved(SMALL, "JPEG"), b"", saved(SMALL, "PNG")[:40]):
        picture.write_bytes(data)
        with pytest.raises(OptionInvalid, match="does not say how it was made"):
            shown(picture)
    theirs = PngInfo()
    theirs.add_text("parameters", "a cat\x1b[2J\nSteps: 20, Sampler: Euler a")
    picture.write_bytes(saved(SMALL, "PNG", pnginfo=theirs))
    with pytest.raises(OptionInvalid) as caught:
        shown(picture)
    assert caught.value.message.endswith(
        'another program made it: "a cat [2J Steps: 20, Sampler: Euler a"'
    )
