"""What is left of a server's throughput when its edits come in three canvases at once."""

from __future__ import annotations

import statistics
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

Edit = TypeVar("Edit")


async def canvases(
    saturated: Callable[[Sequence[Edit]], Awaitable[float]],
    by_canvas: Sequence[Sequence[Edit]],
    turns: int,
) -> None:
    """Prints the share over `turns`, as median (minimum - maximum): the seconds of equally many
    edits of each canvas, one canvas after the other, over those of the same edits in turn, in as
    many parts. `saturated`: seconds an edit of a saturated server."""
    in_turn = [edit for group in zip(*by_canvas, strict=True) for edit in group]
    count = len(by_canvas[0])
    parts = [in_turn[start : start + count] for start in range(0, len(in_turn), count)]
    shares = []
    for turn in range(turns):
        ways = {"apart": by_canvas, "in turn": parts}
        seconds = {}
        for way in list(ways)[:: 1 if turn % 2 else -1]:
            seconds[way] = sum([await saturated(part) for part in ways[way]])
        shares.append(seconds["apart"] / seconds["in turn"])
    print(
        f"\n{len(by_canvas)} canvases in turn: {statistics.median(shares):.2f} "
        f"({min(shares):.2f} - {max(shares):.2f}) of the throughput of one at a time"
    )
