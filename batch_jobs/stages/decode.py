"""Decoding on the cluster: an image that kills its decoder costs its own row alone."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from batch_jobs.stages.crash_journal import DEATHS_TO_CONVICT, Journal
from batch_jobs.stages.edit import decode_rows
from engine.errors import WorkerCrashed
from engine.pool import DecodePool, TaskLost
from engine.registry import ModelSpec
from engine.sources import Prepared, prepare

ROW_S = 60.0  # processor time of one decoder: 50 megapixels take half a second


def decode_block(
    block: pa.Table,
    spec: ModelSpec,
    job_seed: int,
    base: str,
    image_root: str | None,
    journal: Journal,
) -> pa.Table:
    """`decode_rows` in this process; or, where one died on this block, each image in a process of
    its own."""
    settings = (spec, job_seed, base, image_root)
    entries = journal.block(["decode", *block["id"].to_pylist()])
    if entries.suspected:
        decoded = _decode_apart(block, settings)
    else:
        entries.open()
        decoded = decode_rows(block, *settings)
    entries.forget()
    return decoded


def _decode_apart(block: pa.Table, settings: tuple[ModelSpec, int, str, str | None]) -> pa.Table:
    pool = DecodePool(1)

    def prepare_apart(*arguments: Any) -> Prepared:
        lost: list[TaskLost] = []
        while len(lost) < DEATHS_TO_CONVICT:
            try:
                return pool.submit(ROW_S, prepare, *arguments).result()
            except TaskLost as error:
                lost.append(error)
        raise WorkerCrashed(f"{len(lost)} processes ended on this image alone ({lost[-1].kind})")

    try:
        return decode_rows(block, *settings, prepare_apart)
    finally:
        pool.close()
