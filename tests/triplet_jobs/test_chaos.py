"""Whatever is killed, each candidate is made once and the kept ones are those of a quiet run."""

from __future__ import annotations

import io
import random
import time
from pathlib import Path

import pytest
from PIL import Image

from batch_jobs.stopping import Exit
from tests.batch_jobs.chaos import (
    RUN_TIMEOUT_S,
    Storm,
    assert_each_once,
    done_rows,
    log_of,
    nodes,
    start_driver,
)
from tests.batch_jobs.jobs import ledger
from tests.batch_jobs.shapes import write_lines
from tests.serving import eventually
from tests.triplet_jobs.chaos import CONFIG, HERE, MODULE, main
from tests.triplet_jobs.factories import account, data_set, files

KILLS = 3
DRIVERS = 2
CAPTIONS = 300
SIDE_PX = 128  # of their photographs: what is proved is the job, not the arithmetic
BROKEN = 2  # of them, whose photograph is none


@pytest.mark.chaos
def test_killed_drivers_workers_and_a_node_leave_the_data_set_of_a_quiet_run(
    tmp_path: Path, photographs: dict[str, bytes]
) -> None:
    for name, data in photographs.items():
        small = Image.open(io.BytesIO(data)).resize((SIDE_PX, SIDE_PX))
        small.save(tmp_path / f"{name}.jpg", quality=92)
    (tmp_path / "text.jpg").write_text("not an image")
    names = list(photographs)
    rows = [
        {"id": f"{i}", "image": f"{names[i % 4]}.jpg", "caption": names[i % 4]}
        for i in range(CAPTIONS)
    ]
    for row in rows[:: CAPTIONS // BROKEN]:
        row["image"] = "text.jpg"
    captions = write_lines(tmp_path / "captions.jsonl", rows)
    calm, stormy = tmp_path / "calm", tmp_path / "storm"
    candidates = CAPTIONS * CONFIG.rewrites * CONFIG.samples
    with nodes(tmp_path / "trace") as cluster:
        started = time.monotonic()
        driver = start_driver(captions, calm, cluster.address, MODULE)
        assert driver.wait(RUN_TIMEOUT_S) == Exit.FAILED_ROWS, log_of(calm).read_text()
        run_s = time.monotonic() - started
        storm = Storm(cluster, captions, stormy, 1, candidates, run_s, MODULE, DRIVERS)
        storm.blow()
        stormy_s = time.monotonic() - started - run_s
    assert storm.exit_code == Exit.FAILED_ROWS, storm.log
    assert (storm.driver_kills, storm.node_kills) == (DRIVERS, 1) and storm.worker_kills
    assert len(ledger(stormy)) == len(ledger(calm)) == candidates
    assert account(stormy) == account(calm)
    assert account(calm)["kept"] > 0 and account(calm)["filtered"]
    assert account(calm)["failed"] == {
        "image_unsupported": BROKEN * CONFIG.rewrites * CONFIG.samples
    }
    assert data_set(stormy) == data_set(calm)
    assert files(stormy, "images") == files(calm, "images")
    print(
        f"{storm.driver_kills} drivers, {storm.worker_kills} workers, {storm.node_kills} nodes "
        f"killed in {stormy_s:.0f} s; a quiet run takes {run_s:.0f} s; "
        f"{account(calm)['kept']} of {candidates} candidates kept"
    )


@pytest.mark.chaos
def test_a_driver_that_is_killed_again_and_again_leaves_the_data_set_of_a_quiet_run(
    captions: Path, tmp_path: Path
) -> None:
    calm, stormy = tmp_path / "calm", tmp_path / "storm"
    assert main(str(captions), str(calm), HERE) == Exit.OK
    candidates, dice = len(ledger(calm)), random.Random(1)
    kills = 0
    for least in sorted(dice.sample(range(candidates), KILLS)):
        driver = start_driver(str(captions), stormy, HERE, MODULE)
        eventually(lambda: driver.poll() is not None or done_rows(stormy) >= least, 120)  # noqa: B023
        kills += driver.poll() is None
        driver.kill()
        driver.wait()
        assert_each_once(stormy)
    driver = start_driver(str(captions), stormy, HERE, MODULE)
    code = driver.wait(RUN_TIMEOUT_S)
    assert (code, kills >= KILLS - 1) == (Exit.OK, True), log_of(stormy).read_text()
    assert account(stormy) == account(calm) and account(calm)["filtered"]
    assert data_set(stormy) == data_set(calm)
    assert files(stormy, "images") == files(calm, "images")
