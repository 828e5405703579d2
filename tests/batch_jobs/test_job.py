"""N rows in, N rows out, each with its status; what is done is not done again."""

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import ray.data
from typer.testing import CliRunner

from batch_jobs.config import JobConfig
from batch_jobs.job import FAILED_ROWS, JOB, OK, STOPPED, Job
from batch_jobs.ledger.commit_buffer import Commits
from batch_jobs.ledger.ledger import Ledger
from batch_jobs.manifest.source_versions import source_states
from batch_jobs.stages.pipeline import build_dataset
from batch_jobs.storage.storage import Storage
from cli.main import app
from engine.errors import ManifestInvalid, OptionInvalid, OutputUnusable
from engine.fields import validate
from engine.registry import ModelSpec
from engine.seeding import row_seed
from tests.batch_jobs.conftest import CONFIG, run_job
from tests.conftest import PHOTOGRAPHS

Write = Callable[..., str]


def good_rows(count: int) -> list[dict[str, Any]]:
    texts = ("make it night", "make it blue", "add fog")
    return [
        {
            "id": f"row-{i}",
            "image": f"{PHOTOGRAPHS[i % 4]}.jpg",
            "instruction": texts[i % 3],
            "num_inference_steps": 2 + i % 2,
            "guidance_scale": 5.0,
        }
        for i in range(count)
    ]


def ledger(output: Path) -> dict[str, dict[str, Any]]:
    rows = Ledger(Storage(str(output))).read().to_pylist()
    assert len({row["id"] for row in rows}) == len(rows)
    return {row["id"]: row for row in rows}


def digests(row: dict[str, Any]) -> list[str]:
    """sha256 of each published file of a row, computed anew."""
    return [hashlib.sha256(Path(out["uri"]).read_bytes()).hexdigest() for out in row["outputs"]]


def test_bad_rows_become_error_rows_and_do_not_change_their_neighbours(
    cluster: None, manifest: Write, tmp_path: Path, photographs: dict[str, bytes]
) -> None:
    (tmp_path / "text.jpg").write_text("not an image")
    (tmp_path / "cut.jpg").write_bytes(photographs["coffee"][:9000])
    base = {"num_inference_steps": 2, "guidance_scale": 5.0}
    bad = {
        "image_unsupported": {"image": "text.jpg", "instruction": "make it night"},
        "image_not_found": {"image": "none.jpg", "instruction": "make it night"},
        "image_truncated": {"image": "cut.jpg", "instruction": "make it night"},
        "instruction_empty": {"image": "coffee.jpg", "instruction": " "},
        "option_invalid": {
            "image": "coffee.jpg",
            "instruction": "make it night",
            "guidance_scale": float("nan"),
        },
        "instruction_too_long": {"image": "coffee.jpg", "instruction": "very long " * 200},
    }
    good = good_rows(34)
    mixed = list(good)
    for place, (code, row) in enumerate(bad.items()):
        mixed.insert(place * 6, {**base, **row, "id": code})

    assert run_job(manifest(good, "good.parquet"), tmp_path / "good") == OK
    assert run_job(manifest(mixed, "mixed.parquet"), tmp_path / "mixed") == FAILED_ROWS

    undisturbed, disturbed = ledger(tmp_path / "good"), ledger(tmp_path / "mixed")
    assert len(disturbed) == 40
    errors = {id: row["error_code"] for id, row in disturbed.items() if row["status"] == "error"}
    assert errors == {code: code for code in bad}
    for id, row in undisturbed.items():
        assert row["status"] == "ok"
        assert digests(row) == [out["sha256"] for out in row["outputs"]]
        assert digests(disturbed[id]) == digests(row)
    success = json.loads((tmp_path / "mixed" / "_SUCCESS").read_text())
    assert (success["ok"], success["error"], success["exit_code"]) == (34, 6, 3)
    report = (tmp_path / "mixed" / "report.html").read_text()
    assert "image_truncated" in report and "data:image/jpeg;base64" in report
    assert (tmp_path / "mixed" / "contact_sheet.png").read_bytes()[:4] == b"\x89PNG"


def test_a_finished_job_is_not_run_again_and_a_changed_row_is_redone_alone(
    cluster: None, manifest: Write, tmp_path: Path
) -> None:
    rows, output = good_rows(12), tmp_path / "out"
    assert run_job(manifest(rows), output) == OK
    before = {path: path.stat().st_mtime_ns for path in output.rglob("*") if path.is_file()}
    assert run_job(manifest(rows), output) == OK
    assert {p: p.stat().st_mtime_ns for p in output.rglob("*") if p.is_file()} == before

    old = ledger(output)
    rows[3]["instruction"] = "turn it into a pencil sketch"
    assert run_job(manifest(rows), output) == OK
    new = ledger(output)
    changed = [id for id in new if new[id]["finished_at"] != old[id]["finished_at"]]
    assert changed == ["row-3"]
    assert new["row-3"]["instruction"] == "turn it into a pencil sketch"
    assert digests(new["row-3"]) != [out["sha256"] for out in old["row-3"]["outputs"]]


def test_what_changes_pixels_is_edited_again(
    cluster: None, manifest: Write, tmp_path: Path
) -> None:
    path, output = manifest(good_rows(2)), tmp_path / "out"
    assert run_job(path, output) == OK
    before = ledger(output)
    engine = CONFIG.engine.model_copy(update={"resolution": 96})
    assert run_job(path, output, CONFIG.model_copy(update={"engine": engine})) == OK
    after = ledger(output)
    assert all(after[id]["fingerprint"] != before[id]["fingerprint"] for id in before)
    assert after["row-0"]["outputs"][0]["width_px"] == 96


def test_an_image_that_changed_is_edited_again_only_with_check_sources(
    manifest: Write, tmp_path: Path
) -> None:
    path = manifest(good_rows(4))

    def prints(check: bool) -> dict[str, str]:
        config = CONFIG.model_copy(update={"check_sources": check})
        plan = Job(path, str(tmp_path / "out"), config).plan
        return dict(zip(plan["id"].to_pylist(), plan["fingerprint"].to_pylist(), strict=True))

    before, checked = prints(False), prints(True)
    assert all(before[id] != checked[id] for id in before)
    coffee = tmp_path / "coffee.jpg"
    coffee.write_bytes(coffee.read_bytes() + b"one more byte")
    assert prints(False) == before
    assert [id for id, print in prints(True).items() if print != checked[id]] == ["row-1"]
    coffee.unlink()
    assert [id for id, print in prints(True).items() if print != checked[id]] == ["row-1"]


def test_an_image_that_storage_says_nothing_of_is_not_taken_for_absent(tmp_path: Path) -> None:
    (tmp_path / "loop.jpg").symlink_to("loop.jpg")
    (tmp_path / "file").touch()
    absent = ["none.jpg", "file/x.jpg", "nul\0.jpg", "http://127.0.0.1:9/x.jpg"]
    assert source_states([*absent, None], str(tmp_path)) == ["absent"] * 4 + [None]
    with pytest.raises(ManifestInvalid, match=r"--check-sources: .* loop.jpg has changed: .*loop"):
        source_states([*absent, "loop.jpg"], str(tmp_path))


def test_rows_that_left_the_manifest_leave_the_ledger_and_another_manifest_is_refused(
    cluster: None, manifest: Write, tmp_path: Path
) -> None:
    rows, output = good_rows(3), tmp_path / "out"
    rows[0]["instruction"] = ""
    assert run_job(manifest(rows), output) == FAILED_ROWS
    with pytest.raises(OutputUnusable, match="rows of another manifest, such as row-0"):
        run_job(manifest(rows[1:], "other.parquet"), output)
    assert len(ledger(output)) == 3
    assert run_job(manifest(rows[1:]), output) == OK
    assert set(ledger(output)) == {"row-1", "row-2"}


def test_a_manifest_of_the_same_ids_and_names_elsewhere_is_another(tmp_path: Path) -> None:
    for folder in ("a", "b", "c"):
        (tmp_path / folder).mkdir()
        image = "/1.jpg" if folder == "c" else "1.jpg"
        (tmp_path / folder / "m.csv").write_text(f"id,image,instruction\n1,{image},add fog\n")

    def job(folder: str, output: str) -> Job:
        return Job(str(tmp_path / folder / "m.csv"), str(tmp_path / output), CONFIG)

    def finish(done: Job) -> None:
        done.ledger.append(
            {"id": row["id"], "fingerprint": row["fingerprint"], "status": "ok"}
            for row in done.plan.to_pylist()
        )
        done.storage.publish(JOB, json.dumps({"manifest": done.manifest}).encode())

    finish(job("a", "out"))
    assert len(job("a", "out").todo()[0]) == 0
    with pytest.raises(OutputUnusable, match=r'a/m.csv, not of .*b/m.csv.*correct "manifest" in'):
        job("b", "out").todo()
    job("b", "out").storage.publish(JOB, json.dumps({"manifest": job("b", "x").manifest}).encode())
    assert len(job("b", "out").todo()[0]) == 0
    finish(job("c", "absolute"))
    (tmp_path / "c").rename(tmp_path / "d")
    assert len(job("d", "absolute").todo()[0]) == 0


def test_a_moved_output_is_finished_all_the_same(
    cluster: None, manifest: Write, tmp_path: Path
) -> None:
    rows = good_rows(3)
    assert run_job(manifest(rows), tmp_path / "out") == OK
    (tmp_path / "out").rename(tmp_path / "moved")
    rows[1]["instruction"] = "sepia"
    assert run_job(manifest(rows), tmp_path / "moved") == OK
    assert len(ledger(tmp_path / "moved")) == 3


def test_a_row_without_an_image_is_an_error_row_in_every_format(
    cluster: None, tmp_path: Path, photographs: dict[str, bytes]
) -> None:
    (tmp_path / "coffee.jpg").write_bytes(photographs["coffee"])
    text = "image,instruction,num_inference_steps\n,make it night,2\ncoffee.jpg,add fog,2\n\n"
    (tmp_path / "m.csv").write_text(text)
    assert run_job(str(tmp_path / "m.csv"), tmp_path / "out") == FAILED_ROWS
    codes = {row["error_code"] for row in ledger(tmp_path / "out").values()}
    assert codes == {"image_missing", None}


def test_rows_without_a_seed_get_theirs_from_job_and_id(
    cluster: None, manifest: Write, tmp_path: Path
) -> None:
    rows = good_rows(3)
    rows[1]["seed"] = 99
    assert run_job(manifest(rows), tmp_path / "out") == OK
    assert run_job(manifest(rows[::-1], "reversed.parquet"), tmp_path / "reversed") == OK
    seeds = {id: row["seed"] for id, row in ledger(tmp_path / "out").items()}
    assert seeds == {"row-0": row_seed(0, "row-0"), "row-1": 99, "row-2": row_seed(0, "row-2")}
    for id, row in ledger(tmp_path / "reversed").items():
        assert digests(row) == digests(ledger(tmp_path / "out")[id])


def test_images_may_be_bytes_or_structs_and_columns_may_have_other_names(
    cluster: None, manifest: Write, tmp_path: Path, photographs: dict[str, bytes]
) -> None:
    options = {"num_inference_steps": 2, "seed": 5}
    path = [{"id": "a", "image": "coffee.jpg", "instruction": "add fog", **options}]
    data = [{"id": "a", "input_image": photographs["coffee"], "edit_prompt": "add fog", **options}]
    struct = [{"id": "a", "image": {"bytes": photographs["coffee"], "path": "x"}, **options}]
    struct[0]["prompt"] = "add fog"
    found = set()
    for name, rows in (("path", path), ("data", data), ("struct", struct)):
        assert run_job(manifest(rows, f"{name}.parquet"), tmp_path / name) == OK
        row = ledger(tmp_path / name)["a"]
        assert row["source_sha256"] == hashlib.sha256(photographs["coffee"]).hexdigest()
        found.add(tuple(digests(row)))
    assert len(found) == 1


def test_several_images_of_a_row_have_seeds_of_their_own(
    cluster: None, manifest: Write, tmp_path: Path
) -> None:
    row = {**good_rows(1)[0], "num_images": 3, "restore_size": True}
    assert run_job(manifest([row]), tmp_path / "out") == OK
    outputs = ledger(tmp_path / "out")["row-0"]["outputs"]
    assert len({out["sha256"] for out in outputs}) == len({out["seed"] for out in outputs}) == 3
    assert {(out["width_px"], out["height_px"]) for out in outputs} == {(512, 512)}


def test_failed_rows_are_edited_again_only_when_asked(
    cluster: None, manifest: Write, tmp_path: Path, photographs: dict[str, bytes]
) -> None:
    rows = good_rows(4)
    rows[1]["image"], rows[2]["instruction"] = "late.jpg", " "
    path, output = manifest(rows), tmp_path / "out"
    assert run_job(path, output) == FAILED_ROWS
    (tmp_path / "late.jpg").write_bytes(photographs["coffee"])
    assert run_job(path, output) == FAILED_ROWS
    assert ledger(output)["row-1"]["error_code"] == "image_not_found"

    before = ledger(output)
    retry = CONFIG.model_copy(update={"retry": "image_not_found"})
    assert run_job(path, output, retry) == FAILED_ROWS
    after = ledger(output)
    assert (after["row-1"]["status"], after["row-1"]["attempts"]) == ("ok", 2)
    assert [id for id in after if after[id]["finished_at"] != before[id]["finished_at"]] == [
        "row-1"
    ]
    assert run_job(path, output, CONFIG.model_copy(update={"retry": "all"})) == FAILED_ROWS
    assert ledger(output)["row-2"]["attempts"] == 2
    with pytest.raises(OptionInvalid, match='Did you mean "image_not_found"'):
        validate(JobConfig, {"retry": "image_not_fuond"})


def test_too_many_failed_rows_stop_the_job_and_keep_what_is_done(
    cluster: None, manifest: Write, tmp_path: Path
) -> None:
    rows = [{**row, "instruction": ""} if i % 2 else row for i, row in enumerate(good_rows(30))]
    config = CONFIG.model_copy(update={"min_rows_for_error_rate": 10})
    output = tmp_path / "out"
    assert run_job(manifest(rows), output, config) == STOPPED
    done = ledger(output)
    assert 10 <= len(done) < 30
    assert not (output / "_SUCCESS").exists()
    tolerant = config.model_copy(update={"max_error_rate": 0.6})
    assert run_job(manifest(rows), output, tolerant) == FAILED_ROWS
    resumed = ledger(output)
    assert len(resumed) == 30
    assert all(resumed[id]["finished_at"] == row["finished_at"] for id, row in done.items())
    assert run_job(manifest(rows[1::2][:10]), tmp_path / "last", config) == FAILED_ROWS
    assert (tmp_path / "last" / "report.html").exists()  # there was nothing left to stop


def test_an_image_outside_the_root_is_refused(
    cluster: None, manifest: Write, tmp_path: Path
) -> None:
    (tmp_path / "link.jpg").symlink_to("/etc/passwd")
    images = ["../secret.jpg", "/etc/passwd", "link.jpg", "s3://bucket/x.jpg", "http://host/x.jpg"]
    rows = [
        {"id": str(i), "image": image, "instruction": "make it night"}
        for i, image in enumerate(images)
    ]
    config = CONFIG.model_copy(update={"image_root": str(tmp_path)})
    assert run_job(manifest(rows), tmp_path / "out", config) == FAILED_ROWS
    codes = {row["error_code"] for row in ledger(tmp_path / "out").values()}
    assert codes == {"image_source_refused"}


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        ([{"id": "a", "image": "x", "instruction": "y"}] * 2, "ids must be unique.* a"),
        ([{"id": None, "image": "x", "instruction": "y"}], "id is null in rows"),
        ([{"id": "a", "instruction": "y"}], 'no column "image"'),
        ([{"id": "a", "image": "x", "instruction": "y", "guidance_scal": 5}], "guidance_scale"),
        ([{"id": "a", "image": "x", "instruction": "y", "prompt": "z"}], "two columns"),
    ],
)
def test_a_manifest_that_cannot_be_run_is_refused_before_anything_starts(
    manifest: Write, tmp_path: Path, rows: list[dict[str, Any]], says: str
) -> None:
    with pytest.raises(ManifestInvalid, match=says):
        run_job(manifest(rows), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_folders_and_globs_are_manifests_too(tmp_path: Path) -> None:
    from batch_jobs.manifest.plan import read_manifest

    for part in range(3):
        rows = [{"image": "x.jpg", "instruction": f"{part}-{i}"} for i in range(4)]
        pq.write_table(pa.Table.from_pylist(rows), tmp_path / f"{part}.parquet")
    for location in (str(tmp_path), f"{tmp_path}/*.parquet"):
        plan = read_manifest(location)
        assert plan["instruction"].to_pylist() == [f"{p}-{i}" for p in range(3) for i in range(4)]
        assert len(set(plan["id"].to_pylist())) == 12
    with pytest.raises(ManifestInvalid, match="no manifest at"):
        read_manifest(f"{tmp_path}/none.parquet")


def remove(book: Ledger, ids: str) -> None:
    book.remove(placed(book, ids))


def placed(book: Ledger, ids: str) -> pa.Table:
    """The rows of these ids, and where they are."""
    rows = book.read(["id"], placed=True)
    return rows.filter(pc.is_in(rows["id"], pa.array(list(ids), pa.string())))


def test_a_ledger_never_shows_half_a_commit(tmp_path: Path) -> None:
    storage = Storage(str(tmp_path))
    book = Ledger(storage)
    book.append({"id": f"{i}", "status": "ok"} for i in range(5))
    (tmp_path / "results" / ".broken.part").write_bytes(b"half a file")
    assert len(book.read()) == 5
    remove(book, "13")
    assert sorted(book.read(["id"])["id"].to_pylist()) == ["0", "2", "4"]
    remove(book, "024")
    assert len(book.read()) == 0 and storage.list("results") == []


def test_a_row_leaves_the_ledger_when_its_successor_is_committed(
    tmp_path: Path,
) -> None:
    book = Ledger(Storage(str(tmp_path)))
    book.append({"id": id, "status": "ok"} for id in "ab")
    book.append({"id": id, "status": "ok"} for id in "ce")

    def statuses() -> dict[str, str]:
        rows = book.read(["id", "status"]).to_pylist()
        assert len({row["id"] for row in rows}) == len(rows)
        return {row["id"]: row["status"] for row in rows}

    before = statuses()
    outdated = placed(book, "abc")
    with Commits(book, 4, lambda: None, outdated):
        pass  # nothing came of the run
    assert statuses() == before
    with Commits(book, 4, lambda: None, outdated) as commits:
        commits.add([{"id": "a", "status": "error"}])
        assert statuses() == before
        commits.add([{"id": "d", "status": "error"}])
        assert statuses() == {**before, "a": "error", "d": "error"}
        commits.add([{"id": "b", "status": "error"}, {"id": "c", "status": "error"}])
    assert statuses() == {id: "ok" if id == "e" else "error" for id in "abcde"}


def test_a_model_that_cannot_be_loaded_costs_no_finished_row(
    cluster: None, manifest: Write, tmp_path: Path, pocket: ModelSpec
) -> None:
    rows, output = good_rows(3), tmp_path / "out"
    former = [{"id": row["id"], "fingerprint": "of another model"} for row in rows]
    Ledger(Storage(str(output))).append(former)
    before = ledger(output)
    broken = replace(pocket, editor="tests.editors:NoSuchEditor")
    assert run_job(manifest(rows), output, spec=broken) == STOPPED
    assert ledger(output) == before


def test_a_ledger_that_another_wrote_to_is_no_success_and_the_next_run_mends_it(
    cluster: None, manifest: Write, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path, output = manifest(good_rows(20)), tmp_path / "out"
    book = Ledger(Storage(str(output)))

    def write_too() -> None:
        while not len(rows := book.read()):
            time.sleep(0.02)
        book.append(rows[:1].to_pylist())

    other = threading.Thread(target=write_too)
    other.start()
    assert run_job(path, output) == STOPPED
    other.join()
    assert "another job wrote to it" in caplog.text
    assert not (output / "_SUCCESS").exists() and len(book.read()) == 21
    todo, outdated = Job(path, str(output), CONFIG).todo()
    assert len(todo) == 1
    assert outdated["id"].to_pylist() == 2 * todo["id"].to_pylist()


def test_nothing_is_read_to_remove_nothing(tmp_path: Path) -> None:
    (tmp_path / "results" / "part.parquet").mkdir(parents=True)  # to read it would fail
    outdated = Ledger(Storage(str(tmp_path / "none"))).read(["id"], placed=True)
    Ledger(Storage(str(tmp_path))).remove(outdated)


def test_the_summary_names_only_what_was_written(tmp_path: Path) -> None:
    (tmp_path / "m.csv").write_text("id,image,instruction\na,none.jpg,add fog\n")
    job = Job(str(tmp_path / "m.csv"), str(tmp_path / "out"), JobConfig())
    row = {"id": "a", "fingerprint": job.plan["fingerprint"][0].as_py(), "instruction": "add fog"}
    job.ledger.append([{**row, "status": "error", "error_code": "image_not_found"}])
    done = CliRunner().invoke(app, ["batch", str(tmp_path / "m.csv"), str(tmp_path / "out")])
    assert done.exit_code == FAILED_ROWS
    named = [line.split()[-1].rpartition("/out/")[2] for line in done.stdout.splitlines()[1:]]
    assert named == ["results/", "report.html"]


class RacedStorage(Storage):
    """Another job rewrites the ledger between the listing and the reading."""

    races = 2

    def list(self, folder: str, suffix: str = "") -> list[str]:
        found = super().list(folder, suffix)
        if self.races:
            self.races -= 1
            self.publish(f"{folder}/{self.races}.parquet", self.read(found[0]))
            self.remove(found[0])
        return found


def test_a_part_that_vanishes_is_looked_for_again(tmp_path: Path) -> None:
    storage = RacedStorage(str(tmp_path))
    book = Ledger(storage)
    book.append([{"id": "a", "status": "ok"}])
    assert book.read(["id"])["id"].to_pylist() == ["a"]
    assert storage.races == 0


def test_an_output_that_cannot_be_read_stops_the_job_with_4(
    manifest: Write, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    output = tmp_path / "out"
    (output / "results" / "part.parquet").mkdir(parents=True)
    assert run_job(manifest(good_rows(1)), output) == STOPPED
    assert "Is a directory" in caplog.text and "run it again" in caplog.text


def test_a_pipeline_that_makes_no_progress_stops_the_job_with_4(
    cluster: None, manifest: Write, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    context = ray.data.DataContext.get_current()
    usual = context.execution_no_progress_timeout_s
    context.execution_no_progress_timeout_s = 1.0
    try:
        nowhere = CONFIG.model_copy(update={"num_gpus": 64.0})
        assert run_job(manifest(good_rows(1)), tmp_path / "out", nowhere) == STOPPED
    finally:
        context.execution_no_progress_timeout_s = usual
    assert "stopped: ExecutionTimeoutError" in caplog.text


def test_decoding_is_not_in_the_process_of_the_model(
    cluster: None, manifest: Write, tmp_path: Path
) -> None:
    """Ray Data fuses a task with the actor behind it when their resources are the same."""
    job = Job(manifest(good_rows(2)), str(tmp_path / "out"), CONFIG)
    dataset = build_dataset(
        job.todo()[0], CONFIG, job.spec, str(tmp_path), job.storage
    ).materialize()
    assert "decode_block" in dataset.stats()
    assert "decode_block)->" not in dataset.stats()
