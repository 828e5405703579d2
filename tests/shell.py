"""A shell as a reader of the documentation has it, and the code blocks of a page."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parent.parent
_FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
_VARIABLE = re.compile(r"\w+=\S*")


class Block(NamedTuple):
    """A block of code of a page."""

    language: str  # behind its fence; empty where none is named
    code: str


def blocks(page: Path) -> list[Block]:
    """List the blocks of code of a page."""
    return [Block(*found) for found in _FENCE.findall(page.read_text())]


def commands(code: str) -> list[list[str]]:
    """List the words of each line of a shell's code, what is continued joined, without comments and
    the variables before a command."""
    lines = [shlex.split(line, comments=True) for line in code.replace("\\\n", " ").splitlines()]
    found = []
    for words in filter(None, lines):
        while _VARIABLE.fullmatch(words[0]):
            del words[0]
        found.append(words)
    return found


def shell(script: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run bash in a folder; `python`, `torchrun` and `rayedit` are this environment's, the modules
    this checkout's."""
    bin = Path(sys.executable).parent
    environment = {
        **os.environ,
        "PATH": f"{bin}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "COLUMNS": "80",
        "NO_COLOR": "1",
    }
    return subprocess.run(
        ["bash", "-c", script],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
