"""The worker that edits: a picture is encoded once, and a death costs only who caused it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
from torch.nn.modules.module import register_module_forward_pre_hook

from batch_jobs.ledger.entry import from_ledger
from batch_jobs.stages.in_process import StagesHere
from engine.spec import ModelSpec
from tests.batch_jobs.jobs import CONFIG, job_here, left
from tests.serving import ROOT


def pictures_encoded(run: Callable[[], Any]) -> int:
    """How many pictures a VAE encodes meanwhile."""
    counts: list[int] = []

    def count(module: Any, inputs: tuple[Any, ...]) -> None:
        if type(module).__name__ == "Encoder":  # diffusers', of a VAE
            counts.append(len(inputs[0]))

    hook = register_module_forward_pre_hook(count)
    try:
        run()
    finally:
        hook.remove()
    return sum(counts)


def test_equal_pictures_of_a_job_are_encoded_once(
    manifest: Callable[..., str], tmp_path: Path, pocket: ModelSpec
) -> None:
    same = [
        {"id": f"{i}", "image": "coffee.jpg", "instruction": text, "num_inference_steps": 1}
        for i, text in enumerate(("make it night", "add fog", "make it blue"))
    ]
    rows = [*same, {**same[0], "id": "other", "image": "rocket.jpg"}]
    job = job_here(manifest(rows), tmp_path / "out", CONFIG, pocket)
    run = job.block_run(left(job))
    with StagesHere(run) as stages:
        blocks = [stages.decode(run.todo.slice(start, 2)) for start in (0, 2)]
        edited: list[pa.Table] = []
        assert pictures_encoded(lambda: edited.extend(map(stages.edit, blocks))) == 2
        entries = from_ledger(pa.concat_tables(map(stages.publish, edited)))
    assert [entry.status for entry in entries] == ["ok"] * 4
    assert len({entry.outputs[0].sha256 for entry in entries}) == 4


def test_a_row_that_the_model_does_not_know_says_so_or_fails_where_it_is_strict(
    manifest: Callable[..., str], tmp_path: Path, pocket: ModelSpec
) -> None:
    row = {"image": "coffee.jpg", "instruction": "turn the vase red", "num_inference_steps": 1}
    rows = [{**row, "id": "a"}, {**row, "id": "b", "strict_instruction": True}]
    job = job_here(manifest(rows), tmp_path / "out", CONFIG, pocket)
    run = job.block_run(left(job))
    with StagesHere(run) as stages:
        warned, failed = from_ledger(stages.publish(stages.edit(stages.decode(run.todo))))
    assert warned.warnings == ["instruction_unknown"]
    assert warned.understood_as == "black and white except red"
    assert (failed.error_code, failed.error_param) == ("instruction_unknown", "instruction")


def repeated(folder: Path, blocks: list[list[str]]) -> list[dict[str, object]]:
    command = [sys.executable, "-m", "tests.batch_jobs.repeated", str(folder), json.dumps(blocks)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_rows_that_kill_their_worker_only_together_are_edited_alone(tmp_path: Path) -> None:
    """Also after one of them was killed alone: those that survived do not meet again."""
    pair = ["exit beside others in encode"] * 2
    both, three = repeated(tmp_path, [pair, [*pair, "exit in encode"]])
    assert both == {"deaths": 1, "codes": [None, None]}
    assert three == {"deaths": 3, "codes": [None, None, "worker_crashed"]}


def test_a_worker_whose_model_has_ended_stops_the_job_and_fails_no_row(tmp_path: Path) -> None:
    (ended,) = repeated(tmp_path, [["add fog", "end the thread in encode"]])
    assert ended == {"deaths": 0, "codes": "the model's thread has ended: see the worker's log"}


def test_rows_that_kill_their_worker_are_convicted_one_after_the_other(tmp_path: Path) -> None:
    """However many of a block; the one of a block of its own was not alone: another may run."""
    blocks = [["exit in encode"] * 4 + ["add fog"], ["exit in encode"]]
    four, one = repeated(tmp_path, blocks)
    assert four == {"deaths": 9, "codes": ["worker_crashed"] * 4 + [None]}
    assert one == {"deaths": 3, "codes": ["worker_crashed"]}
