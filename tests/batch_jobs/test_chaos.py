"""Whatever is killed, the last resume leaves what an undisturbed run leaves."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from batch_jobs.stopping import Exit
from tests.batch_jobs.chaos import (
    CONFIG,
    DRIVER_KILLS,
    RUN_TIMEOUT_S,
    WORKERS,
    Storm,
    log_of,
    nodes,
    start_driver,
    write_bad_images,
)
from tests.batch_jobs.jobs import digests, good_rows, ledger

ROWS = 200


@dataclass(frozen=True)
class Calm:
    """The undisturbed run of a manifest, on a cluster of three nodes."""

    cluster: Any
    manifest: str
    folder: Path
    trace: Path
    run_s: float

    def outcome(self, name: str) -> dict[str, tuple[str, list[str]]]:
        """id -> (status, sha256 of the files on the disk)."""
        return {
            id: (row["status"], digests(row) if row["outputs"] else [])
            for id, row in ledger(self.folder / name).items()
        }


@pytest.fixture(scope="module")
def calm(tmp_path_factory: pytest.TempPathFactory, photographs: dict[str, bytes]) -> Iterator[Calm]:
    folder = tmp_path_factory.mktemp("chaos")
    for name, data in photographs.items():
        (folder / f"{name}.jpg").write_bytes(data)
    rows = good_rows(ROWS)
    bad = write_bad_images(folder, photographs["coffee"])
    for place, (code, change) in enumerate(bad.items()):
        rows[place * 16 + 3] |= {**change, "id": code}
    columns = {key: [row[key] for row in rows] for key in rows[0]}
    manifest = str(folder / "manifest.parquet")
    pq.write_table(pa.table(columns), manifest)
    with nodes(folder / "trace") as cluster:
        started = time.monotonic()
        driver = start_driver(manifest, folder / "calm", cluster.address)
        assert driver.wait(RUN_TIMEOUT_S) == Exit.FAILED_ROWS, log_of(folder / "calm").read_text()
        yield Calm(cluster, manifest, folder, folder / "trace", time.monotonic() - started)


@pytest.mark.chaos
@pytest.mark.parametrize("seed", range(10))
def test_killed_drivers_workers_and_nodes_leave_what_an_undisturbed_run_leaves(
    calm: Calm, seed: int
) -> None:
    calm.trace.write_text("")
    name = f"storm-{seed}"
    storm = Storm(calm.cluster, calm.manifest, calm.folder / name, seed, ROWS, calm.run_s)
    storm.blow()
    assert storm.exit_code == Exit.FAILED_ROWS, storm.log
    undisturbed = calm.outcome("calm")
    assert len(undisturbed) == ROWS
    assert calm.outcome(name) == undisturbed
    edited = Counter(calm.trace.read_text().split())
    redone = sum(edited.values()) - len(edited)
    kills = storm.driver_kills * WORKERS + storm.worker_kills + storm.node_kills * WORKERS
    assert (storm.driver_kills, storm.node_kills) == (DRIVER_KILLS, 1) and storm.worker_kills
    assert redone <= CONFIG.rows_per_commit * kills
    print(
        f"seed {seed}: {redone} rows redone for {storm.driver_kills} drivers, "
        f"{storm.worker_kills} workers, {storm.node_kills} nodes; a run takes {calm.run_s:.0f} s"
    )
