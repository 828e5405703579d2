"""The choice depends on scores and ids alone."""

from __future__ import annotations

import json
import random
from typing import Any

import pyarrow as pa

from batch_jobs.ledger.entry import SCHEMA
from engine.edit import PairScores
from triplet_jobs.config import TripletConfig
from triplet_jobs.filters import Filters
from triplet_jobs.selection import COLUMNS, reasons

SCORES = (
    *[(30.0, 0.9), (30.0, 0.8), (30.0, 0.8), (30.0, 0.7), (30.0, 0.16)],
    *[(2.9, 0.9), (30.0, 0.14)],
)


def candidates(prompts: int = 2) -> list[dict[str, Any]]:
    return [
        {
            "id": f"{prompt}/{number}",
            "status": "ok",
            "scores": {"change": change, "edge_correlation": edges},
            "carried": json.dumps({"prompt_id": f"{prompt}"}),
        }
        for prompt in range(prompts)
        for number, (change, edges) in enumerate(SCORES)
    ]


def table(rows: list[dict[str, Any]]) -> pa.Table:
    schema = pa.schema([SCHEMA.field(name) for name in COLUMNS])
    return pa.Table.from_pylist(rows, schema=schema)


def test_the_best_of_each_instruction_are_kept_and_of_equals_the_first() -> None:
    found = reasons(table(candidates()), TripletConfig(max_out_samples=2))
    best = "not_among_best"
    for prompt in range(2):
        of_one = [found[f"{prompt}/{number}"] for number in range(len(SCORES))]
        assert of_one == [None, None, best, best, best, "change", "edge_correlation"]


def test_the_order_of_the_ledger_does_not_matter() -> None:
    rows = candidates(5)
    expected = reasons(table(rows), TripletConfig())
    random.Random(1).shuffle(rows)
    assert reasons(table(rows), TripletConfig()) == expected


def test_a_row_that_failed_is_no_candidate() -> None:
    failed = {"id": "x", "status": "error", "carried": None}
    assert reasons(table([*candidates(1), failed]), TripletConfig()).keys() == {
        f"0/{number}" for number in range(len(SCORES))
    }


def test_a_score_that_is_exactly_enough_is_enough() -> None:
    filters = Filters.of(TripletConfig(min_change=4.0, min_edge_correlation=0.5))
    assert filters.missed(PairScores(4.0, 0.5)) is None
    assert filters.missed(PairScores(3.99, 0.5)) == "change"
    assert filters.missed(PairScores(4.0, 0.49)) == "edge_correlation"
