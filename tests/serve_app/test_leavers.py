"""Clients that leave in the middle of an edit: their work ends with them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator

import httpx
import psutil
import pytest

from tests.serve_app.conftest import files_of, post_form
from tests.serve_app.load import PHOTOGRAPH, memory_bytes, processes_of
from tests.serving import INGRESS, PROXY, REPLICA, SMALL, Server, running_server

CLIENTS = 200
STEPS = "15"  # minutes for all of them, but less than the deadline: none is refused for it
STAY_S = 5.0
GONE_S = 1.0  # after which nothing of theirs may be computed
WATCHED_S = 3.0
MEMORY_BYTES = 80 * 2**20


@pytest.fixture(scope="module")
def patient(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that lets hundreds of edits wait for minutes."""
    config = {"engine": SMALL, "max_in_flight": 2 * CLIENTS, "max_wait_s": 300, "deadline_s": 300}
    with running_server(config, tmp_path_factory.mktemp("patient")) as running:
        yield running


async def leave(server: Server) -> int:
    """Ask for edits that wait for minutes, half of them as streams, and go; returns how many were
    answered."""
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(base_url=server.url, timeout=60, limits=limits) as client:

        async def one(number: int) -> None:
            form = {"prompt": "make it night", "num_inference_steps": STEPS}
            if number % 2:
                form |= {"stream": "true", "partial_images": "3"}
            await client.post("/v1/images/edits", data=form, files={"image": PHOTOGRAPH})

        clients = [asyncio.create_task(one(number)) for number in range(CLIENTS)]
        await asyncio.sleep(STAY_S)
        answered = sum(client.done() for client in clients)
        for task in clients:
            task.cancel()
        await asyncio.gather(*clients, return_exceptions=True)
        return answered


def processor_s(server: Server) -> float:
    """Processor time that the replica and the ingress with its decoders have used."""
    pids = [pid for name in (REPLICA, INGRESS) for pid in server.pids(name)]
    parents = [psutil.Process(pid) for pid in pids]
    processes = parents + [child for parent in parents for child in parent.children()]
    return sum(time.user + time.system for time in (p.cpu_times() for p in processes))


def open_files(server: Server) -> int:
    pids = [pid for name in (PROXY, INGRESS, REPLICA) for pid in server.pids(name)]
    return sum(psutil.Process(pid).num_fds() for pid in pids)


@pytest.mark.chaos
def test_two_hundred_clients_that_leave_take_their_work_and_leave_nothing(
    patient: Server, photographs: dict[str, bytes]
) -> None:
    options = {"seed": 7, "num_inference_steps": 10}
    with httpx.Client(base_url=patient.url, timeout=60) as http:
        undisturbed = files_of(post_form(http, photographs["coffee"], **options))
        asyncio.run(leave(patient))  # whatever grows once has grown
        time.sleep(GONE_S)
        memory, files = memory_bytes(processes_of(patient)), open_files(patient)

        began_s = processor_s(patient)
        answered = asyncio.run(leave(patient))
        while_there_s = processor_s(patient) - began_s
        time.sleep(GONE_S)
        began_s = processor_s(patient)
        time.sleep(WATCHED_S)
        after_s = processor_s(patient) - began_s

        print(
            f"{CLIENTS} clients, {answered} answered; {while_there_s:.1f} s of processor time in "
            f"{STAY_S:g} s, {after_s:.2f} s in {WATCHED_S:g} s after they left; "
            f"{(memory_bytes(processes_of(patient)) - memory) / 2**20:+.0f} MiB, "
            f"{open_files(patient) - files:+d} open files"
        )
        assert answered < CLIENTS / 4
        assert while_there_s > STAY_S / 2
        assert after_s < 0.1 * WATCHED_S
        assert http.get("/readyz").json()["in_flight"] == 0
        assert memory_bytes(processes_of(patient)) - memory < MEMORY_BYTES
        assert open_files(patient) - files < 20
        assert files_of(post_form(http, photographs["coffee"], **options)) == undisturbed
