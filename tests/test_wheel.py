"""The wheel as a stranger installs it, used in a folder that holds strangers of our names."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import httpx
import pytest

from tests.serving import Server, free_port, wait_until_ready

ROOT = Path(__file__).parent.parent
NOT_NEEDED = (".*", "__pycache__", "tests", "training", "demo", "build", "dist", "*.egg-info")
STRANGERS = ("engine.py", "cli.py", "batch_jobs.py", "serve_app/__init__.py")
SCRIPT = """
import rayedit
with rayedit.Editor("pocket", resolution=64) as editor:
    edited = editor.edit("coffee.jpg", "make it night", seed=1, num_inference_steps=1)
print(edited.size, rayedit.__file__)
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bin folder of an environment with the wheel, and this environment behind it."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"  # a build leaves its scraps beside what it builds
    shutil.copytree(ROOT, source, ignore=shutil.ignore_patterns(*NOT_NEEDED))
    build = ("wheel", "--no-deps", "--no-build-isolation", "-w", folder, source)
    pip(Path(sys.executable), *build)
    venv.create(folder / "env", with_pip=True)
    python = folder / "env" / "bin" / "python"
    (wheel,) = folder.glob("*.whl")
    pip(python, "install", "--no-deps", wheel)
    (site,) = (folder / "env" / "lib").glob("python*/site-packages")
    (site / "others.pth").write_text(sysconfig.get_path("purelib"))  # behind the wheel's own
    return python.parent


def pip(python: Path, *arguments: str | Path) -> None:
    environment = {name: v for name, v in os.environ.items() if name != "PYTHONPATH"}
    subprocess.run([python, "-m", "pip", "-q", *arguments], check=True, env=environment)


@pytest.fixture
def folder(tmp_path: Path, photographs: dict[str, bytes]) -> Path:
    """A working folder with a photograph, a manifest, and modules that raise when imported."""
    for name in STRANGERS:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("raise SystemExit('a stranger was imported')\n")
    (tmp_path / "coffee.jpg").write_bytes(photographs["coffee"])
    (tmp_path / "m.csv").write_text("image,instruction,num_inference_steps\ncoffee.jpg,add fog,1\n")
    (tmp_path / "small.yaml").write_text("engine: {resolution: 64}\n")
    return tmp_path


def run(installed: Path, folder: Path, *command: str) -> str:
    """What the command of the environment says; it must end with 0."""
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    done = subprocess.run(
        [installed / command[0], *command[1:]],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_import_rayedit_finds_its_own(installed: Path, folder: Path) -> None:
    (folder / "script.py").write_text(SCRIPT)
    said = run(installed, folder, "python", "script.py")
    assert said.startswith("(600, 400)")
    assert str(installed.parent) in said  # the wheel's, not this checkout's


@pytest.mark.slow
def test_edit_and_batch_find_their_own(installed: Path, folder: Path) -> None:
    run(installed, folder, "rayedit", "edit", "coffee.jpg", "add fog", "-o", "fog.png")
    said = run(installed, folder, "rayedit", "batch", "m.csv", "out", "--config", "small.yaml")
    assert "1 ok" in said


@pytest.mark.slow
def test_a_job_that_ray_submits_finds_its_own(installed: Path, folder: Path) -> None:
    (folder / "batch_jobs.py").unlink()  # Python itself would run that one
    job = ("python", "-m", "batch_jobs")
    said = run(installed, folder, *job, "m.csv", "out", "--config", "small.yaml")
    assert "1 ok" in said


@pytest.mark.slow
def test_serve_finds_its_own(installed: Path, folder: Path) -> None:
    port, log = free_port(), folder / "server.log"
    command = [installed / "rayedit", "serve", "--port", str(port), "--config", "small.yaml"]
    environment = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "RAY_ADDRESS")}
    with log.open("wb") as said:
        process = subprocess.Popen(
            command, cwd=folder, env=environment, stdout=said, stderr=said, start_new_session=True
        )
    server = Server(f"http://127.0.0.1:{port}", process, log)
    try:
        wait_until_ready(server)
        answer = httpx.post(
            f"{server.url}/v1/images/edits",
            data={"prompt": "add fog", "num_inference_steps": "1"},
            files={"image": (folder / "coffee.jpg").read_bytes()},
            timeout=60,
        )
        assert answer.status_code == 200, answer.text
    finally:
        code = server.stop()
    assert code == 0, server.log
