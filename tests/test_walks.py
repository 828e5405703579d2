"""The walks of ARCHITECTURE.md are those of the code: each file is met, in the order that they say.

One real row and one real request run in this process while every call is noted. What runs only in
a process of Ray's is looked up, not met.
"""

from __future__ import annotations

import ast
import asyncio
import re
import sys
import threading
from collections.abc import AsyncGenerator, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import FrameType

import httpx
import pytest

from engine.actor import EditActor
from engine.config import EngineConfig
from engine.edit import EditOutcome, EditRequest
from engine.options import EditOptions
from engine.spec import ModelSpec
from serve_app.backend import Preview
from serve_app.config import ServeConfig
from serve_app.schemas import Readiness

ROOT = Path(__file__).parent.parent
OF_RAY = {
    "serve_app/proxy/headers.py",  # in the server that Serve starts
    "serve_app/ingress/ray_backend.py",
    "serve_app/replica/replica.py",
    "batch_jobs/__main__.py",  # the command; the trace begins at `Job.open`
    "batch_jobs/stages/pipeline.py",
    "batch_jobs/cluster.py",
    "batch_jobs/stages/plan_source.py",
}

Stop = tuple[str, str]  # file, function


def walk(title: str) -> list[tuple[str, Stop]]:
    """(process, stop) of each line of a walk."""
    text = (ROOT / "ARCHITECTURE.md").read_text()
    section = text.split(f"## {title}, file by file")[1].split("\n## ")[0]
    process, found = "", []
    for line in section.splitlines():
        match = re.match(r"\| ([^|]*)\| `([\w/]+\.py)` `([\w.]+)` \|", line)
        if match:
            process = match[1].strip() or process
            found.append((process, (match[2], match[3])))
    return found


class Trace:
    """The functions of this project that each thread called, in the order of their first call."""

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """Begin anew."""
        self._met: dict[str, dict[Stop, None]] = {}

    def note(self, frame: FrameType, event: str, _: object) -> None:
        path = frame.f_code.co_filename
        if event == "call" and path.startswith(f"{ROOT}/") and f"{ROOT}/.venv" not in path:
            name = frame.f_code.co_qualname.rpartition("<locals>.")[2]
            met = self._met.setdefault(threading.current_thread().name, {})
            met.setdefault((path.removeprefix(f"{ROOT}/"), name))

    def of(self, stops: list[Stop], thread: str = "MainThread") -> list[Stop]:
        """Those of `stops` that a thread met, in its order."""
        return [stop for stop in self._met[thread] if stop in stops]


@contextmanager
def traced(*, threads: bool = False) -> Iterator[Trace]:
    """Note what this thread calls; `threads`: and those that start inside."""
    trace = Trace()
    if threads:
        threading.setprofile(trace.note)
    sys.setprofile(trace.note)
    try:
        yield trace
    finally:
        sys.setprofile(None)
        threading.setprofile(None)


@pytest.fixture(scope="module")
def imported(pocket: ModelSpec) -> None:
    """All that a model imports is there: it takes minutes where it is traced."""
    EditActor(EngineConfig(resolution=64), pocket).close()


def stops_of(title: str, *processes: str) -> list[Stop]:
    """The stops that can be met here, of these processes or, without any, of all."""
    return [
        stop
        for process, stop in walk(title)
        if stop[0] not in OF_RAY and (not processes or process in processes)
    ]


@pytest.mark.parametrize("title", ["A request", "A row"])
def test_a_walk_names_each_file_once_and_functions_that_exist(title: str) -> None:
    stops = [stop for _, stop in walk(title)]
    assert len(stops) > 25
    assert len({file for file, _ in stops}) == len(stops)
    for file, function in stops:
        *scope, name = function.split(".")
        nodes: list[ast.stmt] = ast.parse((ROOT / file).read_text()).body
        for part in scope:
            nodes = next(n.body for n in nodes if isinstance(n, ast.ClassDef) and n.name == part)
        defined = [n for n in ast.walk(ast.Module(nodes, [])) if isinstance(n, ast.stmt)]
        functions = ast.FunctionDef | ast.AsyncFunctionDef
        assert name in [n.name for n in defined if isinstance(n, functions)], (file, function)


@pytest.mark.slow
@pytest.mark.usefixtures("imported")
def test_a_row_takes_the_walk(
    tmp_path: Path, photographs: dict[str, bytes], pocket: ModelSpec
) -> None:
    from batch_jobs.config import JobConfig
    from batch_jobs.job import Job
    from batch_jobs.stages.in_process import edited_here

    (tmp_path / "coffee.jpg").write_bytes(photographs["coffee"])
    manifest = tmp_path / "manifest.jsonl"
    # A column of its own: what columns of these names mean may be known from another test.
    line = '{"id": "a", "image": "coffee.jpg", "instruction": "add fog", "walk": 1}'
    manifest.write_text(line + "\n")
    config = JobConfig(engine=EngineConfig(resolution=64), rows_per_commit=1)  # no row waits
    with traced() as trace:
        job = Job.open(
            str(manifest), str(tmp_path / "out"), config, spec=pocket, run_blocks=edited_here
        )
        assert job.run() == 0
    assert trace.of(stops_of("A row")) == stops_of("A row")


class ActorHere:
    """A backend that has the model edit in this process."""

    def __init__(self, actor: EditActor) -> None:
        self._actor = actor

    async def edit(self, request: EditRequest) -> EditOutcome:
        request = replace(request, partial_images=1)
        return await asyncio.wrap_future(self._actor.submit([request])[0])

    async def edit_stream(
        self, request: EditRequest
    ) -> AsyncGenerator[Preview | EditOutcome, None]:
        yield await self.edit(request)

    async def ready(self) -> Readiness:
        return Readiness(model=self._actor.spec.name, revision="", in_flight=0)


@pytest.mark.slow
@pytest.mark.usefixtures("imported")
def test_a_request_takes_the_walk(photographs: dict[str, bytes], pocket: ModelSpec) -> None:
    from serve_app.ingress.api import make_app
    from serve_app.ingress.codec_tasks import SentFiles, prepare_source
    from serve_app.ingress.models import ServedModel
    from serve_app.ingress.service import EditService
    from serve_app.proxy.guard import ProxyGuard

    config = ServeConfig(engine=EngineConfig(resolution=64), decode_workers=1)

    async def ask(app: ProxyGuard) -> int:
        transport = httpx.ASGITransport(app)  # type: ignore[arg-type]
        async with httpx.AsyncClient(transport=transport, base_url="http://here") as client:
            response = await client.post(
                "/v1/images/edits",
                files={"image": photographs["coffee"]},
                data={"prompt": "add fog", "num_inference_steps": "2"},
            )
            return response.status_code

    with traced(threads=True) as trace:  # the denoising thread starts here
        actor = EditActor(config.engine, pocket, partial_image=lambda *_: None)
        service = EditService(config, [ServedModel("pocket", pocket, ActorHere(actor))])
        app = ProxyGuard(make_app(service), 2**20)
        try:
            assert asyncio.run(ask(app)) == 200  # reads the sampler's table, which steps too
            trace.__init__()  # type: ignore[misc]
            assert asyncio.run(ask(app)) == 200
        finally:
            actor.close()
            service.close()
    here = stops_of("A request", "Serve's proxy", "ingress", "replica")
    assert trace.of(here) == here
    steps = stops_of("A request", "denoising thread")
    assert trace.of(steps, "denoise") == steps

    options = pocket.resolve(EditOptions(), seed=0)
    with traced() as decoder:
        sent = SentFiles([photographs["coffee"]], None)
        prepare_source("a", sent, "add fog", options, pocket)
    there = stops_of("A request", "decoder")
    assert decoder.of(there) == there
