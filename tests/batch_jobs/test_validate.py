"""A manifest is checked before its job: every row, a sample of images, by the job's own rules."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from batch_jobs.config import JobConfig
from batch_jobs.job import Job
from batch_jobs.manifest.plan import open_manifest
from batch_jobs.stages.edit import decode_rows
from batch_jobs.validation.check import ManifestCheck
from batch_jobs.validation.estimate import Probe, duration
from engine.config import EngineConfig
from engine.errors import ManifestInvalid, OutputUnusable
from engine.options import EditOptions
from engine.registry import ModelSpec, find_model
from tests.batch_jobs.conftest import CONFIG
from tests.cli.test_cli import rayedit
from tests.editors import faulty

Write = Callable[..., str]
POCKET = find_model("pocket")
GOOD = {"image": "coffee.jpg", "instruction": "add fog", "num_inference_steps": 2}


def rows(count: int, **cells: Any) -> list[dict[str, Any]]:
    return [{"id": f"row-{i}", **GOOD, **cells} for i in range(count)]


def checked(manifest: str, images: int = 20, **config: Any) -> ManifestCheck:
    check = ManifestCheck(open_manifest(manifest), JobConfig(**config), POCKET)
    check.check_rows()
    check.check_images(images)
    return check


def test_every_kind_of_fault_is_named_with_file_column_and_ten_rows(
    manifest: Write, tmp_path: Path
) -> None:
    (tmp_path / "text.jpg").write_text("not an image")
    bad = rows(200)
    for i in range(100, 140):
        bad[i] = bad[i] | {"text_guidance": 25.0 + i}
    bad[7]["size"], bad[8]["scheduler"], bad[9]["image"] = "100x64", "eular", "text.jpeg"
    bad[9]["image"], bad[10]["image"] = "text.jpg", "s5://bucket/x.png"
    bad[11]["edit_prompt"], bad[12]["image"] = "", "../../etc/x.tif"
    bad[13]["image"] = None
    for row in bad:
        row["edit_prompt"] = row.pop("instruction") if "edit_prompt" not in row else ""
        row.pop("instruction", None)
    path = manifest(bad)
    done = rayedit("validate", path, "--images", "200")
    assert (done.returncode, done.stdout) == (2, "")
    text = done.stderr
    assert f"{path}, column text_guidance: 40 rows, option_invalid\n  row-100: " in text
    assert "must be less than or equal to 20; got 125" in text and "  and 30 more\n" in text
    assert "row-109" in text and "row-110" not in text
    assert f"{path}, column edit_prompt: 1 row, instruction_empty\n  row-11: " in text
    for column, id, says in (
        ("size", "row-7", "sides are multiples of 16"),
        ("scheduler", "row-8", "must be 'ddim'"),
        ("image", "row-9", "not a JPEG, PNG or WebP"),
        ("image", "row-10", "s5:// is not fetched"),
        ("image", "row-12", "No such file"),
        ("image", "row-13", "image is empty"),
    ):
        assert f"column {column}: 1 row" in text and f"  {id}: " in text and says in text
    assert text.endswith("200 rows in 1 file, 156 images opened: 8 kinds of fault\n")


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("m.parquet", "PAR1", "m.parquet cannot be read"),
        ("m.xlsx", "PK", "a manifest ends in .parquet, .jsonl, .csv"),
        ("m.csv", "image,instruction,guidance_scal\nx,y,5\n", 'mean "guidance_scale"'),
        ("m.csv", "picture,instruction\nx,y\n", 'has no column "image"'),
        ("none.csv", None, "no manifest at"),
    ],
)
def test_a_manifest_that_no_job_would_begin_is_refused(
    tmp_path: Path, name: str, text: str | None, says: str
) -> None:
    if text is not None:
        (tmp_path / name).write_text(text)
    with pytest.raises(ManifestInvalid, match=says):
        checked(str(tmp_path / name))


def test_repeated_ids_and_other_faults_are_told_together(tmp_path: Path) -> None:
    line = '{"id": 1, "image": "x", "instruction": " "}\n'
    (tmp_path / "m.jsonl").write_text(line * 2)
    done = rayedit("validate", tmp_path / "m.jsonl")
    assert (done.returncode, done.stdout) == (2, "")
    ids, instruction, *_ = done.stderr.splitlines()
    assert ids.endswith("m.jsonl: ids must be unique; these are not: 1")
    assert instruction.endswith("m.jsonl, column instruction: 2 rows, instruction_empty")


def test_one_image_of_each_kind_is_opened_however_rare_it_is(
    manifest: Write, tmp_path: Path
) -> None:
    (tmp_path / "a.heic").write_bytes(b"heic")
    many = rows(1000)
    many[501]["image"], many[502]["image"] = "a.heic", "http://host/x.jpg"
    many[503]["image"] = "sub/../../x.jpg"
    check = checked(manifest(many), images=5, image_root=str(tmp_path))
    found = "\n".join(check.problems)
    assert all(f"row-{i}: " in found for i in (501, 502, 503))
    assert check.images_opened <= 5 + 4
    assert checked(manifest(many), images=0).problems == []


def test_images_outside_the_root_are_refused(manifest: Write, tmp_path: Path) -> None:
    path = manifest(rows(3) + rows(1, id="out", image="/etc/hostname"))
    (problem,) = checked(path, image_root=str(tmp_path)).problems
    assert "image_source_refused" in problem and "out: /etc/hostname is outside" in problem


def test_what_is_checked_is_what_the_job_does(manifest: Write, tmp_path: Path) -> None:
    """Each option out of its bounds: the same code in the check as in a job's row."""
    bad = {"seed": -1, "num_images": 9, "size": "9x9", "resize": "stretch", "scheduler": "x"}
    bad |= {"num_inference_steps": 0, "guidance_scale": 21.0, "image_guidance_scale": -1.0}
    many = [{"id": name, **GOOD, name: value} for name, value in bad.items()]
    many.append({"id": "both", **GOOD, "restore_size": True, "resize": "crop"})
    check = checked(manifest(many), images=0)
    block = check.plan.append_column("attempts", pa.repeat(1, len(many)))
    block = block.append_column("fingerprint", pa.repeat("", len(many)))
    decoded = decode_rows(block, POCKET, 0, str(tmp_path), None)
    entries = [json.loads(text) for text in decoded["entry"].to_pylist()]
    found = "\n".join(check.problems)
    assert {entry["id"] for entry in entries if entry["status"] == "error"} == {*bad, "both"}
    for entry in entries:
        assert f"  {entry['id']}: {entry['error_message']}" in found
    assert set(bad) <= set(EditOptions.model_fields)


def test_a_good_manifest_is_told_so_and_a_probe_estimates_its_time(manifest: Write) -> None:
    config = manifest(rows(0), "none.parquet").replace("none.parquet", "job.yaml")
    Path(config).write_text("engine: {resolution: 64}\nnum_gpus: 1\nmax_workers: 3\n")
    heavy = rows(400, caption="a cup") + [row | {"num_images": 2} for row in rows(200)]
    for i, row in enumerate(heavy):
        row["id"] = str(i)
    path = manifest(heavy)
    done = rayedit("validate", path, "--config", config, "--probe")
    assert (done.returncode, done.stderr) == (0, "")
    counts, unused, probe, times = done.stdout.splitlines()
    assert counts == f"{path}: 600 rows in 1 file, 20 images opened"
    assert unused == "  columns that are not used: caption"
    assert probe.startswith("  probe: 5 rows in ") and "s of loading" in probe
    assert times.startswith("  about, by number of actors (GPUs): 1: ") and " 3: " in times


def test_the_estimate_goes_with_images_steps_and_size(manifest: Write) -> None:
    parts = [rows(1)[0], {**GOOD, "num_images": 4}, {**GOOD, "num_inference_steps": 20}]
    parts.append({**GOOD, "size": "256x128"})
    for i, row in enumerate(parts):
        row["id"] = str(i)
    probe = Probe(checked(manifest(parts)), JobConfig(), POCKET)
    assert np.allclose(probe._work() / probe._work()[0], [1, 4, 10, 2])


def test_a_row_that_the_model_refuses_is_found_by_the_probe(
    manifest: Write, pocket: ModelSpec
) -> None:
    many = rows(5)
    many[2]["instruction"] = "fail in encode"
    config = JobConfig(engine=EngineConfig(resolution=64))
    check = ManifestCheck(open_manifest(manifest(many)), config, pocket)
    check.check_rows()
    assert check.problems == []
    told = Probe(check, config, faulty(pocket)).run()
    assert "by number of machines like this one: 1: " in told  # on CPUs actors share the cores
    (problem,) = check.problems
    assert "internal_error" in problem and "row-2: RuntimeError: injected fault" in problem


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.4, "0 s"), (89, "89 s"), (600, "10 min"), (12000, "3 h 20 min"), (1e6, "11 d 13 h")],
)
def test_a_duration_reads_well(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_one_bad_row_among_many_is_found(tmp_path: Path) -> None:
    count = 20_000
    table = pa.table(
        {
            "id": [str(i) for i in range(count)],
            "image": ["x.jpg"] * count,
            "instruction": [f"add fog {i}" for i in range(count)],
            "seed": pa.array(np.arange(count) - 1),
        }
    )
    pq.write_table(table, tmp_path / "m.parquet")
    (problem,) = checked(str(tmp_path / "m.parquet"), images=0).problems
    assert "column seed: 1 row, option_invalid\n  0: seed: must be greater" in problem


def test_an_output_that_workers_cannot_share_is_refused(manifest: Write) -> None:
    for output in ("memory://out", "https://host/out"):
        with pytest.raises(OutputUnusable, match="give a path or one of file://, s3://, gs://"):
            Job(manifest(rows(1)), output, CONFIG)
