"""How far a job is, from its output alone: it may run elsewhere, or have ended."""

from __future__ import annotations

from collections import Counter
from datetime import datetime

import pyarrow.compute as pc

from batch_jobs.ledger.failed import FAILED_COLUMNS, failed_csv
from batch_jobs.ledger.layout import SUCCESS, read_job
from batch_jobs.ledger.lease import BEAT_EVERY_S, is_alive, owner_of
from batch_jobs.ledger.ledger import Ledger
from engine.counted import counted
from storage.storage import Storage

WATCH_S = 2.5 * BEAT_EVERY_S


def describe(storage: Storage, watch_s: float = WATCH_S) -> str:
    """Write one line of state, then one for each error code. An owner on another host lives if it
    beats within `watch_s`. Raises `OutputUnusable` for what is not the output of a job."""
    job = read_job(storage)
    results = Ledger(storage).read(["status", "error_code", "finished_at"])
    counts = Counter(results["status"].to_pylist())
    errors = Counter(results["error_code"].drop_null().to_pylist())
    owner = owner_of(storage)
    if storage.exists(SUCCESS):
        state = "finished"
    elif owner is not None and is_alive(owner, storage, watch_s):
        state = f"held by process {owner.pid} on {owner.host}"
    else:
        state = "stopped; the same command goes on"
    started = datetime.fromisoformat(job["started_at"])
    done = pc.sum(pc.greater_equal(results["finished_at"], started)).as_py() or 0
    state += f"; of the last run {done:,} of {counted(job['rows_to_edit'], 'row')}"
    total = counted(job["rows"], "row")
    lines = [f"{len(results):,} of {total}: {counts['ok']} ok, {counts['error']} failed"]
    lines += [f"  {code:<24}{count}" for code, count in errors.most_common()]
    if errors:
        lines.append(f"  named by `rayedit status {storage.url} --failed`")
    lines += [f"{job['model']} on {job['manifest']}: {state}"]
    return "\n".join(lines)


def describe_failed(storage: Storage) -> str:
    """Write the rows that failed so far as CSV; raises as `describe`."""
    read_job(storage)
    return failed_csv(Ledger(storage).read(FAILED_COLUMNS))
