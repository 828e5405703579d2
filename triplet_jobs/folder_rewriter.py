"""A rewriter of a folder: a language model that transformers loads, at work over Ray or here."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Self

import pyarrow as pa

from batch_jobs.records import from_table, to_table
from engine.errors import ModelError, NotReady, RewritingFailed
from engine.registry import read_json
from engine.weights import verify_weights
from triplet_jobs.attempts import Attempts
from triplet_jobs.config import TripletConfig
from triplet_jobs.gguf import digest_gguf, find_gguf
from triplet_jobs.kept_rewrites import KeptRewriting
from triplet_jobs.rewriting import Found

if TYPE_CHECKING:  # it loads torch and transformers
    from triplet_jobs.language_model import LanguageModel

_CONTINUES_TEXT = ("ForCausalLM", "LMHeadModel")  # how transformers calls such classes


@dataclass(frozen=True, slots=True)
class Question:
    """Asks for the edits of a caption."""

    key: str  # of `KeptRewrites`
    id: str
    text: str | None


@dataclass(frozen=True, slots=True)
class RewriteOrder:
    """Says how captions are to be rewritten."""

    folder: str
    count: int  # edits of each caption
    seed: int
    at_once: int  # captions in a call of the model
    device: str = "auto"
    threads: int = 1  # of torch, on a CPU
    num_gpus: float = 0.0  # of one worker
    num_cpus: float = 1.0
    max_workers: int | None = None  # default: as many as the GPUs hold, on CPUs one

    @classmethod
    def of(cls, config: TripletConfig) -> Self:
        """Take it from a configuration: a worker has what a model actor of the job has."""
        job = config.job
        return cls(
            folder=config.rewriter,
            count=config.rewrites,
            seed=job.seed,
            at_once=config.rewriter_requests,
            device=job.engine.device,
            threads=job.engine.threads,
            num_gpus=job.num_gpus,
            num_cpus=job.num_cpus,
            max_workers=job.max_workers,
        )


# Answers the questions of a table; yields tables of `KeptRewriting` as they are done.
RunRewriting = Callable[[RewriteOrder, pa.Table], Iterator[pa.Table]]


class RewriteWorker:
    """Answers blocks of questions, and keeps its model between them."""

    def __init__(self, order: RewriteOrder) -> None:
        self._order = order

    def __call__(self, block: pa.Table) -> pa.Table:
        """Make a table of `KeptRewriting` from one of `Question`; raises `ModelError`."""
        asked = from_table(Question, block)
        found = self._rewrite(asked)
        answers = zip(asked, found, strict=True)
        records = [
            record for one, edits in answers for record in KeptRewriting.all_of(one.key, edits)
        ]
        return to_table(KeptRewriting, records)

    @cached_property
    def _model(self) -> LanguageModel:
        """Loaded with the first block: Ray tells what a call raises, and retries an actor that does
        not start."""
        import torch

        from triplet_jobs.language_model import LanguageModel

        torch.set_num_threads(self._order.threads)
        return LanguageModel(Path(self._order.folder), self._order.device)

    def _rewrite(self, asked: Sequence[Question]) -> list[Found]:
        order = self._order
        runs = [Attempts.at(one.id, one.text, order.count, order.seed) for one in asked]
        for one in runs:
            self._check(one)
        while left := [one for one in runs if one.is_open]:
            texts, seeds = [one.text for one in left], [one.next_seed for one in left]
            for one, answer in zip(left, self._model.answer(texts, seeds), strict=True):
                one.take(answer)
        return [one.found for one in runs]

    def _check(self, run: Attempts) -> None:
        if run.is_open:
            try:
                self._model.check(run.text)
            except RewritingFailed as error:
                run.failure = error


def rewritten_here(order: RewriteOrder, questions: pa.Table) -> Iterator[pa.Table]:
    """Answer them in this process; raises `ModelError`."""
    worker = RewriteWorker(order)
    for block in _blocks(order, questions):
        yield worker(block)


def rewritten_over_ray(address: str | None = None) -> RunRewriting:
    """Answer them by actors on the Ray at `address`, or on one of this process, which are gone
    afterwards; raises `NotReady` where they fail."""

    def run(order: RewriteOrder, questions: pa.Table) -> Iterator[pa.Table]:
        import ray.data

        from batch_jobs.cluster import ray_cluster
        from batch_jobs.ray_private import PIPELINE_ERRORS, actor_pool
        from batch_jobs.stages.pipeline import cause_of

        with ray_cluster(address):
            blocks = _blocks(order, questions)
            gpus = float(ray.cluster_resources().get("GPU", 0))
            fitting = math.floor(gpus / order.num_gpus) if order.num_gpus else 1
            workers = min(order.max_workers or max(fitting, 1), len(blocks))
            answers = ray.data.from_arrow(blocks).map_batches(
                RewriteWorker,
                batch_size=None,
                batch_format="pyarrow",
                fn_constructor_args=(order,),
                compute=actor_pool(least=1, most=workers, calls=1),
                num_gpus=order.num_gpus,
                num_cpus=order.num_cpus,
            )
            how = {"batch_size": None, "batch_format": "pyarrow", "prefetch_batches": 0}
            try:
                yield from answers.iter_batches(**how)
            except PIPELINE_ERRORS as error:
                raise NotReady(
                    f"{order.folder} answers no more: {cause_of(error)}; what it answered is "
                    "kept, run it again to go on"
                ) from error

    return run


def find_language_model(folder: Path) -> str:
    """Digest the files of a language model, all that its answers depend on; no torch.

    Raises `ModelError` where there is none that transformers loads.
    """
    if (file := find_gguf(folder)) is not None:
        return digest_gguf(file)
    kinds = read_json(folder / "config.json").get("architectures") or ["model of no known class"]
    if not any(kind.endswith(_CONTINUES_TEXT) for kind in kinds):
        raise ModelError(
            f"{folder} holds a {', '.join(kinds)}, and no language model: one that goes on with a "
            "text, such as a copy of Qwen/Qwen2.5-7B-Instruct"
        )
    return verify_weights(folder)


def _blocks(order: RewriteOrder, questions: pa.Table) -> list[pa.Table]:
    starts = range(0, len(questions), order.at_once)
    return [questions.slice(start, order.at_once) for start in starts]
