"""What the documentation says is so."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import typer.core
import typer.main

from cli.main import app
from tests.test_layers import ENGINE_ORDER, PACKAGES

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


def code_of(page: Path) -> list[str]:
    """The lines of a page's code blocks, and its code spans."""
    blocks = re.findall(r"```.*?```|`[^`]+`", page.read_text(), re.DOTALL)
    return [line for block in blocks for line in block.strip("`").splitlines()]


def commands() -> dict[str, set[str]]:
    """Command of `rayedit` -> its flags."""
    group = typer.main.get_command(app)
    assert isinstance(group, typer.core.TyperGroup)
    return {
        name: {flag for option in command.params for flag in option.opts}
        for name, command in group.commands.items()
    }


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_and_flag_of_a_page_exists(page: Path) -> None:
    known = commands()
    for line in code_of(page):
        for name, rest in re.findall(r"\brayedit ([a-z]+)([^|;&]*)", line):
            used = set(re.findall(r"(?<!\S)--[a-z-]+", rest))
            assert name in known and used <= known[name], line


@pytest.mark.parametrize("name", ["README.md", "README.zh-CN.md"])
def test_the_readme_names_every_command(name: str) -> None:
    code = " ".join(code_of(ROOT / name))
    assert [command for command in commands() if f"rayedit {command}" not in code] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_target_of_a_page_can_be_made(page: Path) -> None:
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    for line in code_of(page):
        assert set(re.findall(r"^make ([a-z-]+)", line)) <= set(targets), line


def maps() -> dict[str, list[str]]:
    """Folder -> the modules that ARCHITECTURE.md's table of it names, in their order."""
    found: dict[str, list[str]] = {}
    package = folder = ""
    for line in (ROOT / "ARCHITECTURE.md").read_text().splitlines():
        name, *_, noun = [cell.strip() for cell in line.split("|")[1:-1]] or ["", ""]
        if noun == "noun":
            room = re.findall(r"`(\w+)/`", name)[0]
            package = room if room in PACKAGES else package
            folder = room if room == package else f"{package}/{room}"
            found[folder] = []
        elif not line.startswith("|"):
            folder = ""
        elif folder:
            assert noun, line
            found[folder] += re.findall(r"`(\w+/?)`", name)
    return found


@pytest.mark.parametrize("package", PACKAGES)
def test_the_map_of_a_package_is_its_tree(package: str) -> None:
    named = [f"{folder}/{name}" for folder, names in maps().items() for name in names]
    tree = {
        str(path.relative_to(ROOT).with_suffix("")).removesuffix("__init__")
        for path in (ROOT / package).rglob("*.py")
    }
    rooms = {f"{folder}/" for folder in maps()}  # which have a table of their own
    expected = sorted(tree - rooms)
    assert sorted(n for n in set(named) - rooms if n.startswith(f"{package}/")) == expected
    assert len(set(named)) == len(named)


def test_the_map_of_the_engine_is_in_the_order_of_its_imports() -> None:
    assert [name.rstrip("/") for name in maps()["engine"]] == ENGINE_ORDER


def test_decisions_have_a_day_and_a_verdict_and_the_newest_is_first() -> None:
    titles = re.findall(r"^## (.*)$", (ROOT / "docs" / "decisions.md").read_text(), re.MULTILINE)
    days = [re.fullmatch(r"(\d{4}-\d{2}-\d{2}) · .+: .+", title) for title in titles]
    assert [title for title, day in zip(titles, days, strict=True) if day is None] == []
    found = [day[1] for day in days if day is not None]
    assert found == sorted(found, reverse=True)
