"""The README in Chinese says what the English one says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ENGLISH, CHINESE = ((ROOT / name).read_text() for name in ("README.md", "README.zh-CN.md"))
FENCE = re.compile(r"^```\w*\n(.*?)^```", re.MULTILINE | re.DOTALL)

PARTS = {
    "the levels of the headings": lambda text: re.findall(r"^(#+) ", prose(text), re.MULTILINE),
    "the points of the lists": lambda text: len(re.findall(r"^- ", prose(text), re.MULTILINE)),
    "the links": lambda text: sorted(re.findall(r"\]\(([^)]+)\)", text.replace(".zh-CN", ""))),
    "the flags": lambda text: sorted(set(re.findall(r"--[a-z-]+", text))),
    "the names in code": lambda text: sorted(set(re.findall(r"`([^`\n]+)`", prose(text)))),
    "the commands": lambda text: [words(line) for line in FENCE.findall(text)],
}


def prose(text: str) -> str:
    """The text but its blocks of code."""
    return FENCE.sub("", text)


def words(code: str) -> list[str]:
    """The words of a block of code but comments and what stands in quotes."""
    return re.sub(r'#.*|"[^"]*"', "", code).split()


@pytest.mark.parametrize("part", PARTS)
def test_the_chinese_readme_is_in_step_with_the_english_one(part: str) -> None:
    assert PARTS[part](CHINESE) == PARTS[part](ENGLISH)
