"""Chains: rows of one `chain_id`, each of which edits what the row of the turn before it made."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from batch_jobs.manifest.cells import shown
from engine.counted import counted
from engine.errors import ManifestInvalid

MAX_TURNS = 1000
OFFENDERS = 10  # as many are named


def turn_of(value: Any) -> int | None:
    """Read the number of a turn from a cell, None from an empty one; raises `ManifestInvalid`."""
    if value in (None, "") or (isinstance(value, float) and math.isnan(value)):
        return None
    is_text = isinstance(value, str) and re.fullmatch(r"\s*\d{1,4}\s*", value)
    is_wide = isinstance(value, float) and value.is_integer()  # as pandas makes it
    turn = int(value) if is_text or is_wide else value
    if isinstance(turn, bool) or not isinstance(turn, int) or not 1 <= turn <= MAX_TURNS:
        raise ManifestInvalid(
            f"turn must be a whole number from 1 to {MAX_TURNS}; got {shown(value)}", param="turn"
        )
    return turn


def is_later(plan: pa.Table) -> pa.ChunkedArray:
    """Tell of each row whether it edits what another one made."""
    return pc.fill_null(pc.greater(plan["turn"], 1), False)


def previous_rows(plan: pa.Table) -> np.ndarray:
    """Find for each row of a plan the row of the turn before: its number, -1 where there is none.

    row   chain_id   turn   before
    0     a          2      2
    1     -          -      -1
    2     a          1      -1
    """
    if plan["turn"].null_count == len(plan):
        return np.full(len(plan), -1)
    before = pc.index_in(
        _keys(plan, pc.subtract(plan["turn"], 1)),
        value_set=_keys(plan, plan["turn"]),
        skip_nulls=True,
    )
    return pc.fill_null(before, -1).to_numpy()


def later_rows(plan: pa.Table) -> list[tuple[int, int]]:
    """List each later turn with the row before it, (row, row before), earlier turns first."""
    before = previous_rows(plan)
    rows = np.flatnonzero(before >= 0)
    turns = plan["turn"].take(pa.array(rows)).to_numpy()
    rows = rows[np.argsort(turns, kind="stable")]
    return list(zip(rows.tolist(), before[rows].tolist(), strict=True))


def with_turns_after(plan: pa.Table, ids: pa.ChunkedArray) -> pa.ChunkedArray:
    """Add to the ids of some rows those of the turns that come after them."""
    chosen = pc.is_in(plan["id"], value_set=ids.combine_chunks()).to_numpy().copy()
    for row, before in later_rows(plan):
        chosen[row] |= chosen[before]
    return plan["id"].filter(pa.array(chosen))


def without_later_images(plan: pa.Table) -> tuple[pa.Table, list[str]]:
    """Take away the images that later turns name, as MagicBrush does when it edits turn by turn:
    there they are what a person made of the turn before. Returns what is to be said of it, too."""
    later = is_later(plan)
    named = pc.or_(pc.is_valid(plan["image"]), pc.is_valid(plan["image_sha256"]))
    unread = pc.sum(pc.and_(later, named)).as_py() or 0
    if not unread:
        return plan, []
    for name in ("image", "image_sha256"):
        at = plan.schema.get_field_index(name)
        kept = pc.if_else(later, pa.scalar(None, plan.schema.field(name).type), plan[name])
        plan = plan.set_column(at, plan.schema.field(name), kept)
    rows = counted(unread, "row")
    return plan, [f"the images of {rows} are not read: a later turn edits what the one before made"]


def chain_problems(plan: pa.Table) -> Iterator[str]:
    """Yield each fault of the chains of a plan, one sentence with the first offenders."""
    has_chain, has_turn = (pc.is_valid(plan[name]) for name in ("chain_id", "turn"))
    half = plan.filter(pc.xor(has_chain, has_turn))
    if len(half):
        yield f"chain_id and turn go together; one is missing in {_named(half['id'].to_pylist())}"
    rows = plan.filter(pc.and_(has_chain, has_turn))
    twice: dict[str, None] = {}
    gaps: dict[str, None] = {}
    turns: dict[str, set[int]] = {}
    for chain, turn in zip(rows["chain_id"].to_pylist(), rows["turn"].to_pylist(), strict=True):
        if turn in turns.setdefault(chain, set()):
            twice[f"{chain} turn {turn}"] = None
        turns[chain].add(turn)
    for chain, known in turns.items():
        if len(known) != max(known):
            missing = next(turn for turn in range(1, max(known)) if turn not in known)
            gaps[f"{chain} turn {missing}"] = None
    if twice:
        yield f"a turn of a chain is one row; of these there are several: {_named(list(twice))}"
    if gaps:
        yield f"the turns of a chain are 1, 2, 3 and so on; these are missing: {_named(list(gaps))}"


def _keys(plan: pa.Table, turns: pa.ChunkedArray) -> pa.Array:
    numbers = pc.cast(turns, pa.string())
    return pc.binary_join_element_wise(numbers, plan["chain_id"], "/").combine_chunks()


def _named(offenders: list[str]) -> str:
    left = len(offenders) - OFFENDERS
    more = f" and {left:,} more" if left > 0 else ""
    return ", ".join(offenders[:OFFENDERS]) + more
