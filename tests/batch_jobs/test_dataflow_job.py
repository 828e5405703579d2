"""DataFlow's image-editing pipeline as a job: its lines, FLUX.1 Kontext, its settings."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas
import pytest
import yaml

from batch_jobs.ledger.ledger import Ledger
from storage.storage import Storage
from tests.cli.test_cli import rayedit
from tests.conftest import jpeg, photograph
from tests.serving import eventually

CONFIG = Path(__file__).parents[2] / "configs" / "batch" / "kontext.yaml"
JOB = {"num_gpus": 0, "rows_per_block": 4, "rows_per_commit": 4}
# DataFlow's example: `dataflow/example/image_gen/image_edit/prompts.jsonl` has such lines.
TWO = [("coffee.png", "Make it vibrant."), (["coffee.png"], "Turn it into a sunset.")]
PHOTOGRAPHS = ("coffee", "chelsea", "rocket")


def line(images: Any, text: str) -> str:
    return json.dumps({"images": images, "conversations": [{"role": "user", "content": text}]})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Photographs, one file that is none, and the pipeline's settings on a small canvas."""
    for name in PHOTOGRAPHS:
        (tmp_path / f"{name}.png").write_bytes(jpeg(photograph(name)))
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nnothing")
    config = yaml.safe_load(CONFIG.read_text())
    config["engine"] |= {"resolution": 64, "num_threads": 1}
    (tmp_path / "kontext.yaml").write_text(yaml.safe_dump(config | JOB))
    return tmp_path


def command(folder: Path, manifest: str, tiny: Path) -> list[str]:
    config = folder / "kontext.yaml"
    output = folder / "out"
    return ["batch", str(folder / manifest), str(output), f"--config={config}", f"--model={tiny}"]


def rows_of(folder: Path) -> list[dict[str, Any]]:
    return Ledger(Storage(str(folder / "out"))).read().to_pylist()


def exported_lines(folder: Path) -> list[dict[str, Any]]:
    exported = rayedit("export", folder / "out", "--to", "dataflow")
    assert exported.returncode == 0, exported.stderr
    return [
        json.loads(t)
        for t in (folder / "out" / "export-dataflow.jsonl").read_text().split("\n")
        if t
    ]


@pytest.mark.slow
def test_its_two_lines_come_back_with_their_pictures(
    folder: Path, tiny: Callable[[str], Path]
) -> None:
    (folder / "prompts.jsonl").write_text("\n".join(line(*pair) for pair in TWO))
    done = rayedit(*command(folder, "prompts.jsonl", tiny("flux-kontext")))
    assert done.returncode == 0, done.stderr
    for row in rows_of(folder):
        assert (row["num_inference_steps"], row["guidance_scale"]) == (28, 3.5)
    lines = exported_lines(folder)
    assert len(lines) == 2 and all("error" not in one for one in lines)


@pytest.mark.chaos
def test_twenty_lines_killed_half_way_are_finished_by_the_same_command(
    folder: Path, tiny: Callable[[str], Path]
) -> None:
    same = [line(f"{PHOTOGRAPHS[i % 3]}.png", "add fog") for i in range(5)]
    others = [line(f"{PHOTOGRAPHS[i % 3]}.png", f"edit number {i}") for i in range(14)]
    broken = line("broken.png", "make it night")
    (folder / "m.jsonl").write_text("\n".join([*same, *others[:7], broken, *others[7:]]))
    arguments = command(folder, "m.jsonl", tiny("flux-kontext"))
    arguments += ["--num-inference-steps=12"]
    first = subprocess.Popen(
        [sys.executable, "-m", "cli.main", *arguments],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        assert eventually(lambda: (folder / "out").exists() and bool(rows_of(folder)), 300)
    finally:
        os.killpg(first.pid, signal.SIGKILL)
        first.wait()
    before = {row["id"]: row["finished_at"] for row in rows_of(folder)}
    assert 0 < len(before) < 20
    done = rayedit(*arguments)
    assert done.returncode == 3, done.stderr  # one row failed
    rows = rows_of(folder)
    assert len(rows) == len({row["id"] for row in rows}) == 20
    assert {row["id"]: row["finished_at"] for row in rows}.items() >= before.items()
    (failed,) = [row for row in rows if row["status"] == "error"]
    assert failed["error_code"].startswith("image_") and failed["source"] == "broken.png"
    files = [Path(o["uri"]) for row in rows for o in row["outputs"]]
    assert len({path.read_bytes() for path in files}) == 19
    lines = exported_lines(folder)
    assert len(lines) == 20 and sum("error" in one for one in lines) == 1

    cache = folder / "cache_local" / "image_edit_local"
    laid = rayedit(
        *("export", folder / "out", "--to", "dataflow", "--layout", "dataflow", "--dest", cache)
    )
    assert laid.returncode == 0, laid.stderr
    frame = pandas.read_json(cache / "dataflow_cache_step_step1.jsonl", lines=True)
    asked = [json.loads(text) for text in (folder / "m.jsonl").read_text().splitlines()]
    assert len(frame) == 20
    assert frame["conversations"].tolist() == [one["conversations"] for one in asked]
    made = {index: paths for index, paths in enumerate(frame["output_image"]) if paths}
    assert made == {
        index: [str(cache / f"sample_{index}" / f"sample_{index}_0.png")]
        for index in range(20)
        if index != 12
    }
    pictures = [Path(paths[0]).read_bytes() for paths in made.values()]
    assert len(set(pictures)) == 19  # the five of one instruction among them
