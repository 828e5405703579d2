"""An output that rayedit left in August 2026, before ledger rows were typed (commit 488ffed), is
read and gone on with: no row of it is edited again.

old_output/ is one: its rows are a path, an image that the manifest holds, and a wrong option; the
model is a folder that only the dry editor reads.
"""

from __future__ import annotations

import json
import shutil
from contextlib import AbstractContextManager
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from batch_jobs.export.file import export_ledger
from batch_jobs.job import Job
from batch_jobs.ledger.entry import SCHEMA
from batch_jobs.ledger.layout import JOB
from batch_jobs.ledger.ledger import Ledger
from batch_jobs.stages.run import BlockRun, EditedBlocks
from batch_jobs.stopping import Exit
from engine.config import EngineConfig
from engine.spec import ModelSpec
from storage.storage import Storage
from tests.batch_jobs.editors import dry
from tests.batch_jobs.jobs import CONFIG, job_here, ledger

OLD = Path(__file__).parent / "old_output"
FORMER_FILE = "/tmp/oldpart/data/manifest.parquet"  # where its manifest was
CONFIG_OF_OLD = CONFIG.model_copy(
    update={"engine": EngineConfig(determinism="strict", num_threads=1)}
)


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """A copy, as if its manifest had always been there."""
    folder = tmp_path / "old"
    shutil.copytree(OLD, folder)
    job = json.loads((folder / "out" / JOB).read_text())
    told = {**job, "manifest": str(folder / "manifest.parquet")}
    (folder / "out" / JOB).write_text(json.dumps(told))
    return folder


def job_over(old: Path) -> Job:
    defaults = {"num_inference_steps": 20, "guidance_scale": 7.5, "image_guidance_scale": 1.5}
    options = frozenset({"guidance_scale", "image_guidance_scale"})
    spec = ModelSpec(
        name="grey",
        source=str(old / "model"),
        editor="",
        guidance="two_scale",
        options=options,
        defaults=defaults,
        resolution=64,
        multiple=16,
    )
    return job_here(str(old / "manifest.parquet"), old / "out", CONFIG_OF_OLD, dry(spec))


def no_rows(run: BlockRun) -> AbstractContextManager[EditedBlocks]:
    pytest.fail(f"these are edited again: {run.todo['id'].to_pylist()}")


def test_an_old_output_is_finished_without_an_edit(old: Path) -> None:
    before = ledger(old / "out")
    job = job_over(old)
    assert Job(job.plan, job.storage, no_rows).run() == Exit.FAILED_ROWS
    assert ledger(old / "out") == before
    assert (old / "out" / "report.html").exists()


def test_a_row_that_joins_an_old_output_is_edited_alone_and_once(old: Path) -> None:
    table = pq.read_table(old / "manifest.parquet")
    more = table.slice(0, 1).set_column(0, "id", pa.array(["more"]))
    pq.write_table(pa.concat_tables([table, more]), old / "manifest.parquet")
    before = ledger(old / "out")
    assert job_over(old).run() == Exit.FAILED_ROWS
    after = ledger(old / "out")
    assert set(after) == {*before, "more"}
    assert {id: after[id] for id in before} == before
    (old / "out" / "_SUCCESS").unlink()
    job = job_over(old)
    assert Job(job.plan, job.storage, no_rows).run() == Exit.FAILED_ROWS


def test_an_old_part_has_todays_columns(old: Path) -> None:
    table = Ledger(Storage(str(old / "out"))).read()
    assert table.schema == SCHEMA
    rows = ledger(old / "out")
    assert (rows["path"]["source"], rows["path"]["place"]) == ("teal.png", None)
    place = {"file": FORMER_FILE, "row_group": 0, "row": 1}
    assert (rows["bytes"]["source"], rows["bytes"]["place"]) == (None, place)
    assert rows["path"]["seed"] == 7 and rows["path"]["strict_language"] is None
    wrong = rows["wrong"]
    assert (wrong["error_code"], wrong["error_param"]) == ("option_invalid", None)


@pytest.mark.parametrize("shape", ["jsonl", "dataflow", "openai-batch"])
def test_an_old_output_is_exported(old: Path, shape: str) -> None:
    done = export_ledger(Storage(str(old / "out")), shape, str(old / "x.jsonl"))  # type: ignore[arg-type]
    assert done.rows == len((old / "x.jsonl").read_text().splitlines()) == 3
