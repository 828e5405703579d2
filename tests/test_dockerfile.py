"""The Dockerfile is well formed, and agrees with the package and with the cluster's manifests."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from fnmatch import fnmatch
from pathlib import Path
from typing import NamedTuple

import pytest
import yaml
from packaging.specifiers import SpecifierSet

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
BASE = "python:3.11-slim"


class Stage(NamedTuple):
    """One FROM and what follows it: (instruction, its arguments as written)."""

    base: str
    steps: list[tuple[str, str]]

    def of(self, name: str) -> list[str]:
        return [arguments for instruction, arguments in self.steps if instruction == name]


def read_stages() -> dict[str, Stage]:
    lines = [line for line in (ROOT / "Dockerfile").read_text().splitlines() if line[:1] != "#"]
    stages: dict[str, Stage] = {}
    for line in filter(None, re.sub(r"\\\n\s*", "", "\n".join(lines)).splitlines()):
        instruction, arguments = line.split(maxsplit=1)
        if instruction == "FROM":
            base, name = arguments.split(" AS ")
            stages[name] = Stage(base, [])
        else:
            stages[name].steps.append((instruction, arguments))
    return stages


STAGES = read_stages()


def steps(target: str, instruction: str) -> list[str]:
    """The arguments of an instruction, of a target and of the stages below it, the base's first."""
    stage = STAGES[target]
    below = steps(stage.base, instruction) if stage.base in STAGES else []
    return below + stage.of(instruction)


def context(folder: Path) -> Path:
    """What .dockerignore leaves of this repository, copied into a folder."""
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    assert "*" in lines  # all that is not named stays out
    hidden = shutil.ignore_patterns(*(line[3:] for line in lines if line.startswith("**/")))
    folder.mkdir()
    for name in (line[1:] for line in lines if line.startswith("!")):
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, folder / name, ignore=hidden)
        else:
            shutil.copy(ROOT / name, folder / name)
    return folder


def pip(command: str, folder: Path, *more: str) -> None:
    """Run a `pip` command of the Dockerfile in a folder."""
    words = [*shlex.split(command), *more, "--quiet"]
    assert words[0] == "pip"
    subprocess.run([sys.executable, "-m", *words], cwd=folder, check=True)


def test_the_linter_has_nothing_to_say() -> None:
    linter = Path(sys.executable).parent / "hadolint"
    done = subprocess.run(
        [linter, ROOT / "Dockerfile"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "")


@pytest.mark.parametrize("target", ["cpu", "gpu"])
def test_a_target_starts_a_command_of_the_package_as_a_user_that_is_not_root(target: str) -> None:
    user = steps(target, "USER")[-1]
    assert user.isdigit() and int(user) > 0
    assert f"--uid {user} " in " ".join(steps(target, "RUN"))
    (command,) = yaml.safe_load(steps(target, "ENTRYPOINT")[-1])
    assert command in PROJECT["project"]["scripts"]


def test_every_base_is_a_stage_above_or_the_pinned_python_that_the_package_takes() -> None:
    above: list[str] = []
    for name, stage in STAGES.items():
        assert stage.base in [BASE, *above]
        above.append(name)
    (version,) = re.findall(r"^python:(\d+\.\d+)-slim$", BASE)
    assert version in SpecifierSet(PROJECT["project"]["requires-python"])


def test_every_copied_file_is_in_the_context_or_in_a_stage_above(tmp_path: Path) -> None:
    folder = context(tmp_path / "context")
    for stage in STAGES.values():
        for arguments in stage.of("COPY"):
            *sources, _ = arguments.split()
            if sources[0].startswith("--from="):
                assert sources[0].removeprefix("--from=") in STAGES
            else:
                assert [s for s in sources if not (folder / s).exists()] == []


def test_the_context_has_every_package_and_nothing_else_of_python(tmp_path: Path) -> None:
    patterns = PROJECT["tool"]["setuptools"]["packages"]["find"]["include"]
    found = {path.parent.name for path in context(tmp_path / "context").glob("*/__init__.py")}
    packages = {path.parent.name for path in ROOT.glob("*/__init__.py")}
    assert found == {name for name in packages if any(fnmatch(name, p) for p in patterns)}


def test_every_extra_that_is_installed_is_pinned_by_the_lock_file() -> None:
    lock = (ROOT / "requirements.lock").read_text().replace("_", "-")
    pinned = set(re.findall(r"^([\w-]+)==", lock, re.MULTILINE))
    installs = [c for s in STAGES.values() for run in s.of("RUN") for c in run.split(" && ")]
    for command in (c for c in installs if "pip install" in c and "--no-deps" not in c):
        assert "--constraint requirements.lock" in command
        for extra in ",".join(re.findall(r"\[(.*)\]", command)).split(","):
            wanted = PROJECT["project"]["optional-dependencies"].get(extra, [])
            assert (extra == "" or wanted) and {re.split(r"[<>=]", w)[0] for w in wanted} <= pinned


@pytest.mark.slow
def test_the_steps_that_install_do_so(tmp_path: Path) -> None:
    folder = context(tmp_path / "context")
    (tmp_path / "first").mkdir()
    for name in STAGES["packages"].of("COPY")[0].split()[:-1]:
        shutil.copy(folder / name, tmp_path / "first")
    dependencies = STAGES["packages"].of("RUN")[0].split(" && ")[-1]
    prefixed = ("--no-deps", "--ignore-installed", "--prefix", str(tmp_path / "dependencies"))
    pip(dependencies, tmp_path / "first", *prefixed)  # builds without one module of rayedit
    (command,) = STAGES["installed"].of("RUN")
    pip(command.replace("/installed", str(tmp_path / "installed")), folder)
    (site,) = (tmp_path / "installed" / "lib").glob("python*/site-packages")
    assert (tmp_path / "installed" / "bin" / "rayedit").exists()
    assert (site / "engine" / "models" / "pocket" / "model_index.json").exists()
    assert (site / "serve_app" / "playground").is_dir()


@pytest.mark.parametrize("name", ["rayservice.yaml", "rayjob.yaml"])
def test_a_manifest_names_the_image_that_make_image_builds(name: str) -> None:
    printed = subprocess.run(
        ["make", "--dry-run", "image"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    built = dict(re.findall(r"^docker build --target (\S+) --tag (\S+) \.$", printed, re.MULTILINE))
    assert set(built) == {"cpu", "gpu"} <= set(STAGES)
    text = (ROOT / "configs" / "cluster" / name).read_text()
    assert set(re.findall(r"image: (\S+)", text)) == {built["gpu"]}
    lock = (ROOT / "requirements.lock").read_text().splitlines()
    (ray,) = re.findall(r"rayVersion: (\S+)", text)
    assert f"ray=={ray}" in lock


def test_the_files_that_a_manifest_reads_are_in_the_image() -> None:
    assert "configs configs" in STAGES["runtime"].of("COPY")
    text = (ROOT / "configs" / "cluster" / "rayjob.yaml").read_text()
    (folder,) = STAGES["runtime"].of("WORKDIR")
    named = re.findall(rf"{folder}/(configs\S+\.yaml)", text)
    assert named and all((ROOT / path).exists() for path in named)


@pytest.mark.parametrize("page", ["README.md", "README.zh-CN.md", "docs/jobs.md"])
def test_a_page_builds_targets_that_exist_under_the_tags_of_make_image(page: str) -> None:
    version = PROJECT["project"]["version"]
    tags = {"gpu": f"rayedit:{version}", "cpu": f"rayedit:{version}-cpu"}
    text = (ROOT / page).read_text()
    found = re.findall(r"docker build --target (\S+) --tag\s+(\S+) \.", text)
    assert found and all(tags[target] == tag for target, tag in found)
