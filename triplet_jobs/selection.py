"""Selection: which candidates are kept. It depends on their scores and ids alone."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from batch_jobs.ledger.entry import from_ledger, to_ledger
from batch_jobs.ledger.ledger import Ledger
from batch_jobs.manifest.carried import carried_values
from engine.edit import PairScores
from triplet_jobs.candidates import PROMPT
from triplet_jobs.config import TripletConfig
from triplet_jobs.filters import NOT_AMONG_BEST, Filters, rank

COLUMNS = ("id", "status", "scores", "filtered", "outputs", "carried")


def reasons(candidates: pa.Table, config: TripletConfig) -> dict[str, str | None]:
    """Say of each candidate with scores why it is not kept, None of one that is.

    `candidates` has `COLUMNS`. Of equal ones the first by id is the better.
    """
    filters = Filters.of(config)
    found: dict[str, str | None] = {}
    good: dict[str, list[tuple[float, str]]] = defaultdict(list)
    for row in _scored(candidates):
        scores = PairScores(**row["scores"])
        found[row["id"]] = filters.missed(scores)
        if found[row["id"]] is None:
            prompt = carried_values(row["carried"]).get(PROMPT, row["id"])
            good[prompt].append((-rank(scores), row["id"]))
    for ranked in good.values():
        for _, id in sorted(ranked)[config.max_out_samples :]:
            found[id] = NOT_AMONG_BEST
    return found


def wanted_back(candidates: pa.Table, config: TripletConfig) -> pa.Table:
    """Select those that are to be kept, and whose pictures went when other settings decided."""
    kept = [id for id, reason in reasons(candidates, config).items() if reason is None]
    is_kept = pc.is_in(candidates["id"], pa.array(kept, pa.string()))
    return candidates.filter(pc.and_(is_kept, pc.invert(_has_pictures(candidates))))


def settle(ledger: Ledger, config: TripletConfig) -> None:
    """Write into the ledger why candidates are not kept; it names their pictures no more."""
    candidates = ledger.read(COLUMNS, placed=True)
    found = reasons(candidates, config)
    was = zip(*(candidates[name].to_pylist() for name in ("id", "filtered")), strict=True)
    changed = [id for id, before in was if found.get(id) not in (None, before)]
    if not changed:
        return
    ids = pa.array(changed, pa.string())
    rows = ledger.read()
    entries = from_ledger(rows.filter(pc.is_in(rows["id"], ids)))
    settled = [replace(one, filtered=found[one.id], outputs=[]) for one in entries]
    ledger.remove(candidates.filter(pc.is_in(candidates["id"], ids)))
    ledger.append(to_ledger(settled))


def _scored(candidates: pa.Table) -> Iterator[dict[str, Any]]:
    scored = candidates.filter(pc.is_valid(candidates["scores"]))
    for batch in scored.select(["id", "scores", "carried"]).to_batches():
        yield from batch.to_pylist()


def _has_pictures(candidates: pa.Table) -> pa.ChunkedArray:
    return pc.greater(pc.fill_null(pc.list_value_length(candidates["outputs"]), 0), 0)
