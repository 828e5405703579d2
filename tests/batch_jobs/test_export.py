"""What comes in as DataFlow's or OpenAI's JSONL goes out in that shape, failed rows included."""

from __future__ import annotations

import base64
import hashlib
import json
from pathlib import Path
from typing import Any

import fsspec
import pytest
from openai.types import ImagesResponse
from openai.types.shared import ErrorObject

from batch_jobs.ledger.ledger import Ledger
from batch_jobs.stopping import Exit
from cli.export import export
from engine.errors import OutputUnusable
from storage.storage import Storage
from tests.batch_jobs.jobs import run_here
from tests.batch_jobs.shapes import batch_line, data_url, write_lines
from tests.cli.test_cli import rayedit

FEW = {"num_inference_steps": 2, "guidance_scale": 5.0}


def lines_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture(scope="module")
def batch(tmp_path_factory: pytest.TempPathFactory, photographs: dict[str, bytes]) -> Path:
    """The output of a job over an OpenAI Batch of 12 requests, three of them bad."""
    folder = tmp_path_factory.mktemp("batch")
    photo = data_url(photographs["coffee"])
    lines = [batch_line(f"request-{i}", photo, seed=i, **FEW) for i in range(9)]
    lines[1]["body"]["n"] = 2
    bad: list[dict[str, Any]] = [{"mask": "x"}, {"prompt": " "}, {"guidance_scale": 99}]
    lines += [batch_line(f"request-{9 + i}", photo, **body) for i, body in enumerate(bad)]
    lines[10]["body"]["images"] = [{"image_url": data_url(b"not an image")}]
    manifest = write_lines(folder / "batch.jsonl", lines)
    assert run_here(manifest, folder / "out") == Exit.FAILED_ROWS
    return folder / "out"


def test_an_openai_batch_comes_back_as_one(batch: Path) -> None:
    done = rayedit("export", batch, "--to", "openai-batch")
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{batch}/export-openai-batch.jsonl 12 rows\n"
    lines = lines_of(batch / "export-openai-batch.jsonl")
    assert [line["custom_id"] for line in lines] == [f"request-{i}" for i in range(12)]
    assert all(line["error"] is None for line in lines)
    assert len({line["id"] for line in lines}) == 12
    ledger = {row["id"]: row for row in Ledger(Storage(str(batch))).read().to_pylist()}
    for line in lines[:9]:
        assert line["response"]["status_code"] == 200
        answer = ImagesResponse.model_validate(line["response"]["body"])
        outputs = ledger[line["custom_id"]]["outputs"]
        assert len(answer.data or ()) == len(outputs)
        for image, output in zip(answer.data or (), outputs, strict=True):
            data = base64.b64decode(image.b64_json or "")
            assert hashlib.sha256(data).hexdigest() == output["sha256"]
        assert line["response"]["body"]["data"][0]["seed"] == int(line["custom_id"][8:])
        assert (answer.size, answer.output_format) == ("64x48", "png")


def test_a_failed_request_has_the_body_that_the_api_would_answer(batch: Path) -> None:
    dest = batch.parent / "failed.jsonl"
    export(str(batch), "openai-batch", str(dest))
    answers = [line["response"] for line in lines_of(dest)[9:]]
    assert [answer["status_code"] for answer in answers] == [400, 400, 400]
    errors = [ErrorObject.model_validate(answer["body"]["error"]) for answer in answers]
    assert [(error.code, error.param) for error in errors] == [
        ("option_invalid", "mask"),
        ("instruction_empty", "prompt"),
        ("option_invalid", "guidance_scale"),
    ]
    assert all(error.type == "invalid_request_error" for error in errors)


def test_the_ledger_comes_out_as_it_is(batch: Path) -> None:
    dest = batch.parent / "ledger.jsonl"
    export(str(batch), "jsonl", str(dest))
    rows = {row["id"]: row for row in Ledger(Storage(str(batch))).read().to_pylist()}
    for line in lines_of(dest):
        row = rows[line["id"]]
        assert {**line, "finished_at": row["finished_at"]} == row


def test_a_moved_output_is_exported_from_where_it_is(batch: Path, tmp_path: Path) -> None:
    moved = tmp_path / "moved"
    fsspec.filesystem("file").copy(f"{batch}/", f"{moved}/", recursive=True)
    export(str(moved), "openai-batch", str(tmp_path / "all.jsonl"))
    next((moved / "images").glob("*/*.png")).unlink()
    with pytest.raises(OutputUnusable, match=r"moved/images/.*, an image of row request-"):
        export(str(moved), "openai-batch", str(tmp_path / "broken.jsonl"))
    assert [path.name for path in tmp_path.iterdir()].count("broken.jsonl") == 0
    assert not list(tmp_path.glob("*.part"))


def test_an_export_goes_to_storage_whole_or_not_at_all(batch: Path) -> None:
    dest = "memory://bucket/exported.jsonl"
    export(str(batch), "jsonl", dest)
    with fsspec.open(dest, "rt") as file:
        assert len(file.readlines()) == 12


@pytest.mark.parametrize(
    ("output", "dest", "says"),
    [
        ("none", "x.jsonl", "none is not the output of a job: it has no job.json"),
        ("out", "none/x.jsonl", "none/x.jsonl cannot be written: No such file or directory"),
        ("out", "batch.jsonl", "batch.jsonl is the manifest of the job"),
        ("out", "s4://x/y.jsonl", "s4://x/y.jsonl cannot be written: Protocol not known"),
    ],
)
def test_an_export_that_cannot_be_is_refused(
    batch: Path, output: str, dest: str, says: str
) -> None:
    dest = dest if "://" in dest else str(batch.parent / dest)
    with pytest.raises(OutputUnusable) as raised:
        export(str(batch.parent / output), "jsonl", dest)
    assert says in raised.value.message


def test_dataflow_lines_come_back_with_their_edited_images(
    tmp_path: Path, photographs: dict[str, bytes]
) -> None:
    (tmp_path / "coffee.jpg").write_bytes(photographs["coffee"])
    said = [{"role": "user", "content": "make it night"}]
    lines = [
        {"images": "coffee.jpg", "conversations": said, "topic": ["night"], **FEW},
        {"images": [str(tmp_path / "coffee.jpg")], "conversations": said, "num_images": 2, **FEW},
        {"images": ["coffee.jpg", "coffee.jpg"], "conversations": said},
        {"images": "none.jpg", "conversations": said, "mask": "none.png"},
    ]
    manifest = write_lines(tmp_path / "prompts.jsonl", lines)
    assert run_here(manifest, tmp_path / "out") == Exit.FAILED_ROWS
    export(str(tmp_path / "out"), "dataflow", str(tmp_path / "x.jsonl"))
    exported = lines_of(tmp_path / "x.jsonl")
    assert [line["id"] for line in exported] == [f"prompts.jsonl-0-{i}" for i in range(4)]
    assert [len(line["output_image"]) for line in exported] == [1, 2, 0, 0]
    assert [line.get("topic") for line in exported] == [["night"], None, None, None]
    for line in exported[:2]:
        assert line["images"] == str(tmp_path / "coffee.jpg")
        assert line["conversations"] == said
        assert all(Path(path).read_bytes()[:4] == b"\x89PNG" for path in line["output_image"])
    assert [line["error"]["code"] for line in exported[2:]] == ["option_invalid", "image_not_found"]
    assert exported[2]["images"] == [str(tmp_path / "coffee.jpg")] * 2
    assert "pocket takes one source image; got 2" in exported[2]["error"]["message"]
    assert [line.get("mask") for line in exported] == [None] * 3 + [str(tmp_path / "none.png")]


def test_a_job_that_has_not_finished_is_exported_as_far_as_it_is(
    batch: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    running = tmp_path / "running"
    fsspec.filesystem("file").copy(f"{batch}/", f"{running}/", recursive=True)
    (running / "_SUCCESS").unlink()
    part = sorted((running / "results").iterdir())[0]
    part.unlink()
    export(str(running), "openai-batch", str(tmp_path / "so-far.jsonl"))
    said = capsys.readouterr().out
    rows = len(lines_of(tmp_path / "so-far.jsonl"))
    assert 0 <= rows < 12
    assert said == f"{tmp_path}/so-far.jsonl {rows} rows of 12; the job has not finished\n"
