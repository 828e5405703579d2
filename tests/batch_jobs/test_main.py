"""What `rayedit batch` says when a job has ended."""

from __future__ import annotations

from pathlib import Path

from typer.testing import CliRunner

from batch_jobs.config import JobConfig
from batch_jobs.job import Job
from batch_jobs.ledger.entry import Entry, to_ledger
from batch_jobs.stopping import Exit
from cli.main import app
from engine.edit import EditFailure
from engine.errors import ImageNotFound


def test_the_summary_names_only_what_was_written(tmp_path: Path) -> None:
    (tmp_path / "m.csv").write_text("id,image,instruction\na,none.jpg,add fog\n")
    job = Job.open(str(tmp_path / "m.csv"), str(tmp_path / "out"), JobConfig())
    row = Entry("a", fingerprint=job.plan.rows["fingerprint"][0].as_py(), instruction="add fog")
    row.fail(EditFailure.of("a", ImageNotFound("none.jpg: not found")))
    job.ledger.append(to_ledger([row]))
    done = CliRunner().invoke(app, ["batch", str(tmp_path / "m.csv"), str(tmp_path / "out")])
    assert done.exit_code == Exit.FAILED_ROWS
    named = [line.split()[-1].rpartition("/out/")[2] for line in done.stdout.splitlines()[1:]]
    assert named == ["results/", "report.html"]
