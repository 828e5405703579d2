"""The app in the test's own process, and the jobs of its batches with an editor that answers at
once: no Ray, no model."""

from __future__ import annotations

import hashlib
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import openai
import pytest

from batch_jobs.hosted.run import run_batch
from batch_jobs.stages.in_process import edited_here
from batch_jobs.stages.run import BlockRun, EditedBlocks
from batch_jobs.stopping import Exit
from engine.spec import ModelSpec
from serve_app.config import ServeConfig
from serve_app.ingress.api import make_app
from serve_app.ingress.files import owner_of
from serve_app.ingress.keys import ApiKeys, Key
from storage.batch_store import BatchStore
from storage.storage import Storage
from tests.batch_jobs.editors import dry
from tests.serve_app.conftest import Mirror, service_of
from tests.serve_app.local import over_http

KEYS = {hashlib.sha256(name.encode()).hexdigest(): name for name in ("ann", "bob")}
OWNER = owner_of(Key(hashlib.sha256(b"ann").hexdigest(), "ann"))
DAY_S = 86_400
SIDES = {"a": 64, "b": 48}  # in px, of two models


class Clock:
    now_s = 1_764_385_200.0

    def __call__(self) -> float:
        return self.now_s


@dataclass
class Served:
    """The app in this process, and the jobs of its batches."""

    url: str
    place: str
    spec: ModelSpec
    clock: Clock

    def sdk(self, key: str = "ann") -> openai.OpenAI:
        return openai.OpenAI(base_url=f"{self.url}/v1", api_key=key, max_retries=0)

    @property
    def batches(self) -> BatchStore:
        """Ann's."""
        return BatchStore(Storage(self.place), OWNER, self.clock)

    def run(self, id: str, run_blocks: Any = edited_here) -> Exit:
        """The job of a batch, as its process runs it."""
        how = {"spec": dry(self.spec), "run_blocks": run_blocks, "watch_every_s": 0.02}
        return run_batch(self.batches, id, **how)


@pytest.fixture
def served(pocket: ModelSpec, tmp_path: Path) -> Iterator[Served]:
    with serving(pocket, str(tmp_path)) as served:
        yield served


@contextmanager
def serving(pocket: ModelSpec, place: str) -> Iterator[Served]:
    engine = {"resolution": 64, "determinism": "strict", "max_batch_size": 1}
    config = ServeConfig.of(
        {"engine": engine, "decode_workers": 1, "files_uri": place, "aliases": ["gpt-x"]}
    )
    service = service_of(config, pocket, Mirror(), ApiKeys(KEYS))
    clock = Clock()
    assert service.files is not None
    service.files.clock = clock
    with over_http(make_app(service)) as url:
        yield Served(url, place, pocket, clock)
    service.close()


@pytest.fixture
def ann(served: Served) -> Iterator[openai.OpenAI]:
    with served.sdk() as sdk:
        yield sdk


def stopping_after(blocks: int, stop: Callable[[], object]) -> Any:
    """Edit here, and do something when so many blocks are done."""

    @contextmanager
    def run_blocks(run: BlockRun) -> Iterator[EditedBlocks]:
        one_by_one = replace(run, config=run.config.model_copy(update={"rows_per_block": 1}))
        with edited_here(one_by_one) as edited:

            def entries() -> Iterator[Any]:
                for number, block in enumerate(edited.entries, start=1):
                    if number == blocks + 1:
                        stop()
                    yield block

            yield EditedBlocks(edited.config, entries())

    return run_blocks


def terminate() -> None:
    os.kill(os.getpid(), signal.SIGTERM)
