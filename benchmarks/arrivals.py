"""Requests that arrive as a Poisson process: who is late in the queue has arrived all the same."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future, wait
from functools import partial
from typing import Any, TypeVar

import numpy as np

T = TypeVar("T")


def offer(
    serve: Callable[[T], Future[Any]], requests: list[T], rate: float, seed: int
) -> list[float]:
    """Seconds from arrival to answer of each of `requests`, `rate` of which arrive a second."""
    gaps = np.random.default_rng(seed).exponential(1 / rate, len(requests))
    arrivals = time.perf_counter() + np.cumsum(gaps)
    latencies = [0.0] * len(requests)

    def note(i: int, _: Future[Any]) -> None:
        latencies[i] = time.perf_counter() - arrivals[i]

    futures = []
    for i, request in enumerate(requests):
        time.sleep(max(arrivals[i] - time.perf_counter(), 0))
        futures.append(serve(request))
        futures[-1].add_done_callback(partial(note, i))
    wait(futures)
    return latencies
