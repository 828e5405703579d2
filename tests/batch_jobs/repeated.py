"""A worker that is started again after each death, as Ray would, in forks of one process.

`python -m tests.batch_jobs.repeated FOLDER BLOCKS` edits blocks (JSON: lists of instructions), each
as a job of its own, and prints for each one {"deaths": ..., "codes": the error code or null of each
row, or what stopped the worker}.
"""

from __future__ import annotations

import json
import os
import sys

import numpy as np
import pyarrow as pa

from batch_jobs.ledger.entry import Entry
from batch_jobs.records import from_table, to_table
from batch_jobs.stages.crash_journal import Journal
from batch_jobs.stages.decode import DecodedRow
from batch_jobs.stages.edit import EditedRow, EditWorker
from engine.config import EngineConfig
from engine.edit import EditRequest
from engine.errors import WorkerCrashed
from engine.geometry import Geometry
from engine.loading import load_model
from engine.options import EditOptions
from engine.registry import find_model
from engine.schedulers import SCHEDULERS, make_scheduler
from engine.sources import Finishing, Prepared
from storage.storage import Storage
from tests.batch_jobs.editors import dry

SIDE_PX = 16
SPEC = find_model("pocket", SIDE_PX)
CONFIG = EngineConfig(resolution=SIDE_PX, num_threads=1, max_batch_size=8)


def main(folder: str, instructions: list[str]) -> dict[str, object]:
    for deaths in range(4 * len(instructions)):
        reader, writer = os.pipe()
        if not (pid := os.fork()):
            os.write(writer, json.dumps(edit(folder, instructions)).encode())
            os._exit(0)
        os.close(writer)
        os.waitpid(pid, 0)
        with os.fdopen(reader) as pipe:
            if said := pipe.read():
                return {"deaths": deaths, "codes": json.loads(said)}
    raise SystemExit("the worker died without end")


def edit(folder: str, instructions: list[str]) -> list[str | None] | str:
    worker = EditWorker(CONFIG, dry(SPEC), Journal(Storage(folder), "run"))
    try:
        edited = worker(block(instructions))
    except WorkerCrashed as error:
        return error.message
    return [row.entry.error_code for row in from_table(EditedRow, edited)]


def block(instructions: list[str]) -> pa.Table:
    """Decoded rows of one grey picture."""
    options = SPEC.resolve(EditOptions(num_inference_steps=1), seed=1)
    side = (SIDE_PX, SIDE_PX)
    geometry = Geometry((0, 0, *side), side, (0, 0, 0, 0), side)
    grey = np.full((*side, 3), 128, np.uint8)
    requests = [EditRequest(str(i), grey, text, options) for i, text in enumerate(instructions)]
    finishing = Finishing(geometry)
    rows = [DecodedRow(Entry(one.id), Prepared(one, finishing, ())) for one in requests]
    return to_table(DecodedRow, rows)


if __name__ == "__main__":
    load_model(dry(SPEC), CONFIG)  # once before the forks: what is imported takes seconds
    for name in SCHEDULERS:
        make_scheduler(name, {})
    blocks = json.loads(sys.argv[2])
    print(json.dumps([main(f"{sys.argv[1]}/{i}", rows) for i, rows in enumerate(blocks)]))
