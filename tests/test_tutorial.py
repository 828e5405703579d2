"""The tutorial works as written: its commands print what stands below them."""

from __future__ import annotations

import doctest
from pathlib import Path

import pytest
from PIL import Image

from tests.shell import ROOT, blocks, shell

ENGLISH, CHINESE = (ROOT / "docs" / f"tutorial{language}.md" for language in ("", ".zh-CN"))
MARK = "--- the next block ---\n"
FAILED_ROWS = "3"  # how the job with the bad files ends: the one command that does not end with 0


def steps(page: Path) -> list[tuple[str, str]]:
    """Each block of commands, and what it is said to print: nothing where nothing stands below."""
    found: list[tuple[str, str]] = []
    for language, code in blocks(page):
        if language == "bash":
            found.append((code, ""))
        else:
            found[-1] = (found[-1][0], code)
    return found


def test_both_languages_have_the_same_commands_and_show_the_same() -> None:
    assert {block.language for block in blocks(ENGLISH)} == {"bash", "text"}
    assert steps(ENGLISH) == steps(CHINESE)


@pytest.mark.chaos
def test_the_evening_goes_as_the_tutorial_says(tmp_path: Path) -> None:
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    script = "trap 'codes+=\"$? \"' ERR\n"
    script += "".join(f"{code}printf '%s' '{MARK}'\n" for code, _ in steps(ENGLISH))
    done = shell(f"{script}echo $codes", tmp_path)
    *printed, codes = done.stdout.replace("\ufeff", "").split(MARK)  # without what Excel asks for
    assert codes.split() == [FAILED_ROWS], done.stderr[-4000:]
    for (code, shown), got in zip(steps(ENGLISH), printed, strict=True):
        is_shown = doctest.OutputChecker().check_output(shown, got, doctest.ELLIPSIS)
        assert is_shown, f"{code}prints\n{got}"
    is_delivered(tmp_path / "shop")


def is_delivered(shop: Path) -> None:
    """Seventy JPEG files, each under the name of its photograph and as large as that."""
    photographs = {file.stem: file for file in (shop / "photos").iterdir()}
    delivered = {file.stem: file for file in (shop / "printer").iterdir()}
    assert len(delivered) == 70 and delivered.keys() == photographs.keys()
    for name, file in delivered.items():
        with Image.open(file) as made, Image.open(photographs[name]) as source:
            assert (file.suffix, made.format, made.size) == (".jpg", "JPEG", source.size)
