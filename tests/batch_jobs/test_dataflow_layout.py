"""An output goes on in DataFlow's pipeline: by its names of files, its keys, its numbers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas
import pytest
from typer.testing import CliRunner, Result

from batch_jobs.config import JobConfig
from batch_jobs.export.dataflow import LINES, lay_out
from batch_jobs.export.lines import DATAFLOW_KEYS, DataFlowKeys
from batch_jobs.ledger.ledger import Ledger
from batch_jobs.stopping import Exit
from cli.main import app
from engine.config import load_config
from engine.errors import ManifestInvalid, OptionInvalid, OutputUnusable
from storage.storage import Storage
from tests.batch_jobs.jobs import CONFIG, ledger, run_here
from tests.batch_jobs.shapes import write_lines

FEW = {"num_inference_steps": 2, "guidance_scale": 5.0}


def said(text: str) -> list[dict[str, str]]:
    return [{"role": "system", "content": "edit"}, {"role": "user", "content": text}]


def lines() -> list[dict[str, Any]]:
    """Ids that do not count as the rows do, one row that fails, one with two pictures."""
    rows = [
        {"images": ["a.jpg"], "conversations": said("add fog"), "id": f"row-{9 - i}", **FEW}
        for i in range(5)
    ]
    rows[1]["images"] = "broken.jpg"
    rows[3]["num_images"] = 2
    return rows


@pytest.fixture
def done(tmp_path: Path, photographs: dict[str, bytes]) -> Path:
    (tmp_path / "a.jpg").write_bytes(photographs["coffee"])
    (tmp_path / "broken.jpg").write_bytes(photographs["coffee"][:9000])
    manifest = write_lines(tmp_path / "prompts.jsonl", lines())
    assert run_here(manifest, tmp_path / "out") == Exit.FAILED_ROWS
    return tmp_path / "out"


def rayedit(*arguments: Any) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_its_next_step_reads_every_row_by_its_number(done: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    dataflow = ("--to", "dataflow", "--layout", "dataflow", "--output-key", "edited_images")
    told = rayedit("export", done, *dataflow, "--dest", cache)
    assert told.stdout == f"{cache}/{LINES} 5 rows, 5 pictures\n"
    frame = pandas.read_json(cache / LINES, lines=True)
    assert frame["id"].tolist() == [f"row-{9 - i}" for i in range(5)]
    assert frame["images"].tolist() == [
        str(tmp_path / ("broken.jpg" if i == 1 else "a.jpg")) for i in range(5)
    ]
    names = [[str(Path(p).relative_to(cache)) for p in paths] for paths in frame["edited_images"]]
    assert names == [
        ["sample_0/sample_0_0.png"],
        [],
        ["sample_2/sample_2_0.png"],
        ["sample_3/sample_3_0.png", "sample_3/sample_3_1.png"],
        ["sample_4/sample_4_0.png"],
    ]
    assert frame["error"][1]["code"] == "image_truncated"
    rows = ledger(done)
    for id, paths in zip(frame["id"], frame["edited_images"], strict=True):
        sources = [out["uri"] for out in rows[id]["outputs"]]
        assert all(Path(a).samefile(b) for a, b in zip(paths, sources, strict=True))


def test_rows_that_are_not_edited_yet_have_their_lines_and_get_their_pictures(
    done: Path, tmp_path: Path
) -> None:
    book = Ledger(Storage(str(done)))
    known = book.read(placed=True)
    book.remove(known.filter([id in ("row-9", "row-5") for id in known["id"].to_pylist()]))
    told = rayedit("export", done, "--to", "dataflow", "--layout", "dataflow")
    assert told.stdout.endswith("5 rows, 3 pictures; the job has not finished\n")
    frame = pandas.read_json(done / "dataflow" / LINES, lines=True)
    assert [len(paths) for paths in frame["output_image"]] == [0, 0, 1, 2, 0]
    assert frame["images"][0] == str(tmp_path / "a.jpg")
    before = (done / "dataflow" / "sample_2" / "sample_2_0.png").stat().st_mtime_ns
    assert run_here(str(tmp_path / "prompts.jsonl"), done) == Exit.FAILED_ROWS
    assert lay_out(Storage(str(done)), str(done / "dataflow"), DATAFLOW_KEYS).pictures == 5
    assert (done / "dataflow" / "sample_2" / "sample_2_0.png").stat().st_mtime_ns == before


def test_files_of_others_are_left_alone(done: Path, tmp_path: Path) -> None:
    storage, cache = Storage(str(done)), tmp_path / "cache"
    (cache / "sample_4").mkdir(parents=True)
    theirs = cache / "sample_4" / "sample_4_0.png"
    theirs.write_bytes(b"theirs")
    with pytest.raises(OutputUnusable, match=r"sample_4_0.png is another picture: remove it, or"):
        lay_out(storage, str(cache), DATAFLOW_KEYS)
    assert theirs.read_bytes() == b"theirs" and not (cache / LINES).exists()
    theirs.unlink()
    for there in ("", '{"images": "a.jpg", "output_image": []}', '{"id": "another"}', "[1]", "x"):
        (cache / LINES).write_text(f"{there}\n" if there else "")
        if there:
            with pytest.raises(OutputUnusable, match="is not of this job: give another --dest"):
                lay_out(storage, str(cache), DATAFLOW_KEYS)
            assert (cache / LINES).read_text() == f"{there}\n"
        else:
            assert lay_out(storage, str(cache), DATAFLOW_KEYS).rows == 5
    (tmp_path / "prompts.jsonl").unlink()
    with pytest.raises(ManifestInvalid):
        lay_out(storage, str(tmp_path / "elsewhere"), DATAFLOW_KEYS)


def test_keys_of_another_pipeline_are_read_and_written(
    tmp_path: Path, photographs: dict[str, bytes]
) -> None:
    """As its pipeline over an API has them: `input_image`, `instruction`."""
    (tmp_path / "a.jpg").write_bytes(photographs["coffee"])
    line = {"picture": ["a.jpg"], "conversation": said("add fog"), "output_image": [""], **FEW}
    manifest = write_lines(tmp_path / "m.jsonl", [line])
    columns = {"image_column": "picture", "instruction_column": "conversation"}
    assert run_here(manifest, tmp_path / "out", CONFIG.model_copy(update=columns)) == Exit.OK
    (row,) = ledger(tmp_path / "out").values()
    assert row["instruction"] == "add fog"
    keys = DataFlowKeys("picture", "conversation")
    dest = lay_out(Storage(str(tmp_path / "out")), str(tmp_path / "cache"), keys).dest
    (written,) = [json.loads(text) for text in Path(dest).read_text().splitlines()]
    assert written["picture"] == str(tmp_path / "a.jpg")
    assert written["conversation"] == said("add fog")[1:]
    assert written["output_image"] == [str(tmp_path / "cache" / "sample_0" / "sample_0_0.png")]


@pytest.mark.parametrize(
    "flags",
    [
        ("--to", "csv", "--layout", "dataflow"),
        ("--layout", "dataflow"),
        ("--to", "jsonl", "--output-key", "edited"),
        ("--to", "dataflow", "--layout", "dataflow", "--status", "ok"),
    ],
)
def test_flags_that_would_do_nothing_are_refused(done: Path, flags: tuple[str, ...]) -> None:
    refused = rayedit("export", done, *flags)
    assert isinstance(refused.exception, OptionInvalid)


def test_save_interval_is_another_name_of_rows_per_commit(tmp_path: Path) -> None:
    path = tmp_path / "job.yaml"
    path.write_text("save_interval: 10\n")
    assert load_config(path, JobConfig).rows_per_commit == 10
    assert JobConfig(rows_per_commit=7).rows_per_commit == 7
    refused = rayedit("batch", tmp_path / "none.csv", tmp_path / "out", "--save-interval", "0")
    assert refused.exit_code == Exit.REFUSED and "rows_per_commit" in refused.output
