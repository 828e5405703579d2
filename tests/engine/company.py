"""Random histories of a loop: who joins when, where, and with what."""

from __future__ import annotations

import random
from collections.abc import Iterator

from engine.edit import EditRequest, EditResult
from engine.loop import DenoiseLoop


def in_random_company(
    loop: DenoiseLoop,
    subject: EditRequest,
    neighbours: Iterator[EditRequest],
    *,
    samples: int,
    seed: int,
) -> bytes:
    """The subject's image after a history in which always so many samples ran together.

    Neighbours join at its side and before it, some are cancelled on their way.
    """
    draw = random.Random(seed)
    waits, missing = draw.randint(1, 4), samples
    running: set[str] = set()
    while True:
        joining = [next(neighbours) for _ in range(missing)]
        if waits <= 0 and joining and subject.id not in running:
            joining[0], waits = subject, 10**6
        for request in draw.sample(joining, len(joining)):
            loop.admit(request)
        running |= {request.id for request in joining}
        outcomes = {outcome.id: outcome for outcome in loop.step()}
        missing, waits = len(outcomes), waits - 1
        if subject.id in outcomes:
            loop.cancel(running)
            outcome = outcomes[subject.id]
            assert isinstance(outcome, EditResult), outcome
            return outcome.images[0].tobytes()
        running -= set(outcomes)
        if draw.random() < 0.3 and (others := sorted(running - {subject.id})):
            cancelled = loop.cancel({draw.choice(others)})
            running -= {outcome.id for outcome in cancelled}
            missing += len(cancelled)
