"""The files of a job: which are taken, what a picture tells, what in it is transparent."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from batch_jobs.config import JobConfig
from batch_jobs.stopping import Exit
from engine.config import load_config
from engine.errors import OptionInvalid
from engine.png import text_of
from engine.recipe import read_command
from tests.batch_jobs.jobs import CONFIG, good_rows, job_here, ledger, left, run_here
from tests.conftest import photograph
from tests.engine.files import saved

Write = Callable[..., str]


def told(**changes: Any) -> JobConfig:
    before = CONFIG.model_dump(exclude={"engine": {"options"}})
    return load_config(None, JobConfig, **(before | changes))


def commands(output: Path) -> dict[str, list[str] | None]:
    """id -> the words of the command that the row's picture carries."""
    found = {}
    for id, row in ledger(output).items():
        line = text_of(Path(row["outputs"][0]["uri"]).read_bytes())
        found[id] = None if line is None else read_command(line)
    return found


def test_a_picture_carries_what_its_row_asked_for_and_nothing_where_that_is_not_wanted(
    manifest: Write, tmp_path: Path
) -> None:
    rows = good_rows(2)
    path, output = manifest(rows), tmp_path / "out"
    assert run_here(path, output) == Exit.OK
    for row in rows:
        words = commands(output)[row["id"]]
        seed = ledger(output)[row["id"]]["seed"]
        assert words is not None and words[3] == row["instruction"]
        assert words[words.index("--num-inference-steps") + 1] == str(row["num_inference_steps"])
        assert words[-6:] == ["--resolution", "64", "--determinism", "strict", "--seed", str(seed)]
        assert not any(str(tmp_path) in word or row["image"] in word for word in words)
    mute = told(metadata=False)
    assert len(left(job_here(path, output, mute)).todo) == 0  # another writer is no other edit
    assert run_here(path, tmp_path / "mute", mute) == Exit.OK
    assert set(commands(tmp_path / "mute").values()) == {None}
    for id, row in ledger(output).items():
        files = [row, ledger(tmp_path / "mute")[id]]
        pictures = [np.asarray(Image.open(file["outputs"][0]["uri"])) for file in files]
        assert np.array_equal(*pictures)
        assert files[0]["fingerprint"] == files[1]["fingerprint"]


def test_rows_in_another_format_are_mended_by_accepting_it(manifest: Write, tmp_path: Path) -> None:
    path = manifest([{"id": "a", "image": "a.jpg", "instruction": "add fog"}, *good_rows(1)])
    (tmp_path / "a.jpg").write_bytes(saved(Image.fromarray(photograph("coffee")), "TIFF"))
    output = tmp_path / "out"
    assert run_here(path, output) == Exit.FAILED_ROWS
    assert ledger(output)["a"]["error_code"] == "image_unsupported"
    retry = told(accept=["tiff"], retry=str(output / "failed.csv"))
    assert run_here(path, output, retry) == Exit.OK
    assert ledger(output)["a"]["status"] == "ok"


def test_a_row_may_be_transparent_unless_its_file_cannot(manifest: Write, tmp_path: Path) -> None:
    rows = [
        {
            "id": "a",
            "image": "a.png",
            "instruction": "add fog",
            "background": "transparent",
            "restore_size": True,
        }
    ]
    alpha = np.zeros((400, 600), np.uint8)
    alpha[100:300] = 200
    clear = Image.fromarray(np.dstack([photograph("coffee"), alpha]))
    path, output = manifest(rows), tmp_path / "out"
    (tmp_path / "a.png").write_bytes(saved(clear, "PNG"))
    assert run_here(path, output) == Exit.OK
    row = ledger(output)["a"]
    made = np.asarray(Image.open(row["outputs"][0]["uri"]))
    assert np.array_equal(made[..., 3], alpha) and row["warnings"] == []
    assert row["background"] == "transparent"
    assert run_here(path, tmp_path / "jpeg", told(output_format="jpeg")) == Exit.FAILED_ROWS
    assert ledger(tmp_path / "jpeg")["a"]["error_param"] == "background"
    with pytest.raises(OptionInvalid, match="background: a JPEG is opaque"):
        told(engine={"options": {"background": "transparent"}}, output_format="jpeg")
