"""What the documentation says is so."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])


def test_generated_tables_are_those_of_the_code() -> None:
    command = [sys.executable, "-m", "docs.generate", "--check"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_to_a_file_leads_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text()):
        assert (page.parent / target).exists(), target


@pytest.mark.parametrize("name", ["README.md", "README.zh-CN.md"])
def test_every_flag_of_the_readme_exists(name: str) -> None:
    from tests.cli.test_cli import rayedit

    readme = (ROOT / name).read_text()
    lines = re.findall(r"rayedit (edit|batch|status|serve)( .*)?$", readme, re.MULTILINE)
    assert {command for command, _ in lines} >= {"edit", "batch", "serve"}
    for command in {command for command, _ in lines}:
        known = set(re.findall(r"--[a-z-]+", rayedit(command, "--help").stdout))
        used = {flag for name, rest in lines if name == command for flag in rest.split()}
        assert {flag for flag in used if flag.startswith("--")} <= known, command


def test_the_readme_names_its_commands() -> None:
    readme = (ROOT / "README.md").read_text()
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    for target in ("demo", "test", "check", "bench"):
        assert target in targets
    assert "make demo" in readme and "make test" in readme
