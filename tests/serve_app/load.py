"""Clients by the dozen against one server, and what each of them got."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import aiohttp
import httpx
import numpy as np
import psutil

from tests.conftest import jpeg, photograph
from tests.serving import INGRESS, PROXY, REPLICA, Server

PHOTOGRAPH = jpeg(photograph("coffee")[::4, ::4])  # 150 x 100 px: the model is the work
FORM = {"prompt": "make it night", "num_inference_steps": "10"}
EDIT = httpx.Request("POST", "http://host", data=FORM, files={"image": ("a.jpg", PHOTOGRAPH)})


@dataclass(frozen=True, slots=True)
class Answer:
    """`status` 0: the connection ended without one. Times in seconds, `ended_s` on the monotonic
    clock."""

    status: int
    latency_s: float
    ended_s: float
    headers: Mapping[str, str]
    text: str


# aiohttp and a body that is ready: clients stand elsewhere in life, here they share the cores.
# httpx took 3 ms of processor time for an edit, as much as the server for a refusal.
async def _post(client: aiohttp.ClientSession) -> Answer:
    start = time.monotonic()
    headers = {"content-type": EDIT.headers["content-type"]}
    try:
        async with client.post("/v1/images/edits", data=EDIT.read(), headers=headers) as response:
            text = await response.text()
            status, answered = response.status, response.headers
    except (aiohttp.ClientError, TimeoutError) as error:
        status, answered, text = 0, {}, repr(error)
    now = time.monotonic()
    return Answer(status, now - start, now, answered, "" if status == 200 else text)


def _client(server: Server) -> aiohttp.ClientSession:
    connector = aiohttp.TCPConnector(limit=0)
    timeout = aiohttp.ClientTimeout(120)
    return aiohttp.ClientSession(server.url, connector=connector, timeout=timeout)


def closed_loop(server: Server, clients: int, more: Callable[[], bool]) -> list[Answer]:
    """Each client sends its next edit when it has its answer, while `more()`."""
    answers = []

    async def run() -> None:
        async with _client(server) as client:

            async def one() -> None:
                while more():
                    answers.append(await _post(client))

            await asyncio.gather(*(one() for _ in range(clients)))

    asyncio.run(run())
    return answers


def open_loop(server: Server, rate: float, seconds: float) -> list[Answer]:
    """A Poisson process of edits, `rate` a second, that waits for no answer."""
    gaps = np.random.default_rng(0).exponential(1 / rate, int(rate * seconds))

    async def run() -> list[Answer]:
        start = time.monotonic()
        async with _client(server) as client:

            async def one(arrival: float) -> Answer:
                await asyncio.sleep(max(start + arrival - time.monotonic(), 0))
                return await _post(client)

            return await asyncio.gather(*(one(arrival) for arrival in np.cumsum(gaps)))

    return asyncio.run(run())


def for_seconds(seconds: float) -> Callable[[], bool]:
    end = time.monotonic() + seconds
    return lambda: time.monotonic() < end


def median_s(answers: Sequence[Answer]) -> float:
    return float(np.median([answer.latency_s for answer in answers if answer.status == 200]))


def processes_of(server: Server) -> list[psutil.Process]:
    """The proxy, the ingress with its decoders, and the replicas."""
    pids = [pid for name in (PROXY, INGRESS, REPLICA) for pid in server.pids(name)]
    parents = [psutil.Process(pid) for pid in pids]
    return parents + [child for parent in parents for child in parent.children()]


def memory_bytes(processes: Iterable[psutil.Process]) -> int:
    """What those of them that live have resident together."""
    return sum(process.memory_info().rss for process in processes if process.is_running())
