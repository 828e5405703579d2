"""The data set: the kept pairs in Parquet, with a card that says how they came to be."""

from __future__ import annotations

import io
import json
from collections import Counter
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from batch_jobs.export.pairs import Pairs
from batch_jobs.export.triplets import INSTRUCT_PIX2PIX, PICTURE, Triplets
from batch_jobs.ledger.ledger import Ledger
from batch_jobs.ledger.order import by_id
from batch_jobs.manifest.reading import Reading
from storage.storage import Storage
from triplet_jobs.config import TripletConfig

MB = 10**6
DATA, CARD, ACCOUNT = "data", "README.md", "triplets.json"

_CARD = """\
---
configs:
- config_name: default
  data_files:
  - split: train
    path: data/train-*.parquet
task_categories:
- image-to-image
size_categories:
- {size}
---
# Instruction edits

{kept:,} triplets of a picture, an instruction and the edited picture, kept of {candidates:,}
candidates by `rayedit triplets` {version}.

| | |
| --- | --- |
{facts}

Columns: `original_prompt`, `original_image`, `edit_prompt`, `edited_prompt` and `edited_image`, as
timbrooks/instructpix2pix-clip-filtered has them; then `id`, `seed`, the scales and the scores of
the pair, and what its caption carried.

| not kept because of | candidates |
| --- | --- |
{reasons}

The pictures are as free as their sources, and the terms of the model that edited them hold.
"""
_SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (10**6, "100K<n<1M"))


def publish_data_set(
    ledger: Ledger, storage: Storage, config: TripletConfig, told: dict[str, Any]
) -> None:
    """Write `data/train-*.parquet`, README.md and triplets.json of what a ledger keeps.

    `told`: settings of the job, as the account and the card tell them. Raises `OutputUnusable`
    where a picture is gone.
    """
    rows = ledger.read()
    pairs = Pairs(storage, "", Reading(), by_id(rows))
    shards = _publish_shards(Triplets(pairs, INSTRUCT_PIX2PIX), storage, config.shard_mb * MB)
    account = account_of(rows) | {"files": len(shards)}
    storage.publish(CARD, _card(account, told).encode())
    for path in set(storage.list(DATA, ".parquet")).difference(shards):
        storage.remove(path)  # of a run that kept more
    account |= {"settings": told}
    storage.publish(ACCOUNT, json.dumps(account, indent=2, ensure_ascii=False).encode())


def account_of(rows: pa.Table) -> dict[str, Any]:
    """Count what became of each candidate: kept, filtered by which score, failed by which code."""
    has_pictures = pc.greater(pc.fill_null(pc.list_value_length(rows["outputs"]), 0), 0)
    return {
        "candidates": len(rows),
        "kept": pc.sum(has_pictures).as_py() or 0,
        "filtered": dict(Counter(rows["filtered"].drop_null().to_pylist()).most_common()),
        "failed": dict(Counter(rows["error_code"].drop_null().to_pylist()).most_common()),
    }


def _publish_shards(triplets: Triplets, storage: Storage, size_bytes: int) -> list[str]:
    """Write the pairs in files of about a size, one after the other."""
    paths: list[str] = []
    groups: list[pa.Table] = []
    held = 0
    for group in triplets.groups():
        groups.append(group)
        held += _bytes_of(group)
        if held >= size_bytes:
            paths.append(_publish_shard(triplets.schema, groups, storage, len(paths)))
            groups, held = [], 0
    if groups or not paths:
        paths.append(_publish_shard(triplets.schema, groups, storage, len(paths)))
    return paths


def _publish_shard(schema: pa.Schema, groups: list[pa.Table], storage: Storage, number: int) -> str:
    """Write a file; without pairs one without a row group: `datasets` fails on an empty one."""
    buffer = io.BytesIO()
    with pq.ParquetWriter(buffer, schema, compression="zstd") as writer:
        for group in groups:
            writer.write_table(group)
    path = f"{DATA}/train-{number:05d}.parquet"
    storage.publish(path, buffer.getvalue())
    return path


def _bytes_of(group: pa.Table) -> int:
    pictures = [group[field.name] for field in group.schema if field.type == PICTURE]
    sizes = [pc.sum(pc.binary_length(pc.struct_field(one, "bytes"))).as_py() for one in pictures]
    return sum(size or 0 for size in sizes)


def _card(account: dict[str, Any], told: dict[str, Any]) -> str:
    kept = account["kept"]
    lost = {**account["filtered"], **account["failed"]}
    return _CARD.format(
        size=next((name for most, name in _SIZES if kept < most), "n>1M"),
        kept=kept,
        candidates=account["candidates"],
        version=told["rayedit"],
        facts=_table(told),
        reasons=_table(lost) or "| none | 0 |",
    )


def _table(values: dict[str, Any]) -> str:
    lines = [f"| {name} | {_shown(value)} |" for name, value in values.items()]
    return "\n".join(lines)


def _shown(value: Any) -> str:
    text = ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
    return text.replace("|", "\\|")
