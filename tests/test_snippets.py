"""The code of the documentation works as written: Python is run, commands are parsed by the command
that would run them, and what is neither is listed."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer.core
import typer.main
from PIL import Image

from cli.main import app
from engine.config import load_config
from engine.styles import load_styles
from serve_app.config import ServeConfig
from tests.conftest import POCKET, photograph
from tests.serving import Server, server
from tests.shell import ROOT, blocks, commands
from training.pix2pix.options import new_parser

__all__ = ["server"]

FOLDERS = ("docs", "engine", "serve_app", "training", "benchmarks", "examples", "configs")
PAGES = sorted([*ROOT.glob("*.md"), *(p for name in FOLDERS for p in (ROOT / name).rglob("*.md"))])
CARD = ROOT / "training" / "model_card.md"
ADDRESS = "http://127.0.0.1:8000"  # the default of `rayedit serve`

# Pages and commands that are neither run nor parsed here, and why.
ELSEWHERE = {
    "ARCHITECTURE.md": "a drawing",
    "docs/tutorial.md": "tests/test_tutorial.py runs all of it",
    "docs/tutorial.zh-CN.md": "the same commands",
    "training/README.md": "tests/training/test_commands.py parses and runs it",
    "training/model_card.md": "the same text as pocket's README",
    "docs/serving.md:1": "tests/serve_app/test_batch_server.py runs it, with a place for files",
    "docs/serving.md:3": "tests/test_cluster_commands.py gives them on a head that wants a token",
    "docs/serving.md:6": "Prometheus's own: its keys are not ours",
    "docs/triplets.md:2": "Hugging Face's datasets, of which nothing here depends",
    "nginx": "tests/serve_app/test_nginx.py starts nginx with it",
    "make": "tests/test_docs.py looks for its targets",
    "docker": "there is none here; tests/test_dockerfile.py goes through its steps",
    "printf": "tools of the shell alone",
}


def snippets(language: str) -> Iterator[tuple[str, str]]:
    """("page:number", code) of each block of this language on the pages that are looked at here."""
    for page in PAGES:
        name = str(page.relative_to(ROOT))
        for number, block in enumerate(blocks(page), start=1):
            place = f"{name}:{number}"
            if block.language == language and ELSEWHERE.keys().isdisjoint((name, place)):
                yield place, block.code


PYTHON = dict(snippets("python"))
SHELL = dict(snippets("")) | dict(snippets("bash"))


def parse(words: list[str]) -> None:
    """Let the command that would run these words read them; fails where it does not."""
    match words:
        case ["rayedit", name, *arguments]:
            group = typer.main.get_command(app)
            assert isinstance(group, typer.core.TyperGroup)
            group.commands[name].make_context(name, arguments).close()
        case ["python", "-m", "batch_jobs", *arguments]:
            parse(["rayedit", "batch", *arguments])
        case ["python", "-m", "triplet_jobs", *arguments]:
            parse(["rayedit", "triplets", *arguments])
        case ["python", "-m", "training.train_pix2pix", *arguments]:
            new_parser(None).parse_args(arguments)
        case ["ray", "job", "submit", *submitted]:
            parse(submitted[submitted.index("--") + 1 :])
        case _:
            assert words[0] in ELSEWHERE, words


@pytest.mark.parametrize("name", SHELL)
def test_every_command_of_a_page_is_understood(name: str) -> None:
    found = commands(SHELL[name])
    assert found
    for words in found:
        parse(words)
        assert all((ROOT / word).exists() for word in words if word.startswith("configs/")), words


def test_every_language_is_run_parsed_or_listed() -> None:
    languages = {block.language for page in PAGES for block in blocks(page)}
    assert languages <= {"", "bash", "text", "python", "yaml", *ELSEWHERE}
    assert all((ROOT / name).exists() for name in ELSEWHERE if name.endswith(".md"))


@pytest.mark.parametrize(("name", "code"), list(snippets("yaml")))
def test_every_yaml_of_a_page_is_read_as_styles_or_by_the_server(
    name: str, code: str, tmp_path: Path
) -> None:
    (tmp_path / "page.yaml").write_text(code)
    if name.startswith("docs/serving.md"):
        assert load_config(tmp_path / "page.yaml", ServeConfig)
    else:
        assert load_styles(tmp_path / "page.yaml").by_name


def test_the_card_that_training_exports_is_the_one_of_pocket() -> None:
    assert CARD.read_text() == (POCKET / "README.md").read_text()


def pictures(names: dict[str, object]) -> Iterator[Image.Image]:
    """The pictures that a snippet made: PIL's, in lists too, and those of OpenAI's answers."""
    for value in names.values():
        for item in value if isinstance(value, list) else getattr(value, "data", None) or [value]:
            if encoded := getattr(item, "b64_json", None):
                yield Image.open(io.BytesIO(base64.b64decode(encoded)))
            elif isinstance(item, Image.Image):
                yield item


@pytest.mark.parametrize(
    "name",
    [  # the same code in another language has no need to be fast
        pytest.param(name, marks=pytest.mark.slow if ".zh-CN" in name else ()) for name in PYTHON
    ],
)
def test_python_runs_as_written_and_makes_pictures(
    name: str,
    tmp_path: Path,
    photographs: dict[str, bytes],
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
) -> None:
    monkeypatch.chdir(tmp_path)
    for file in ("photo.jpg", "a.jpg", "b.jpg"):
        (tmp_path / file).write_bytes(photographs["coffee"])
    code = PYTHON[name]
    if ADDRESS in code:
        running: Server = request.getfixturevalue("server")
        code = code.replace(ADDRESS, running.url)
    source = Image.fromarray(photograph("coffee")).resize((128, 128))
    given: dict[str, object] = {"folder": POCKET, "photograph": source}
    names = dict(given)
    exec(compile(code, name, "exec"), names)
    made = list(pictures({key: value for key, value in names.items() if key not in given}))
    assert made and all(low != high for image in made for low, high in image.getextrema())
