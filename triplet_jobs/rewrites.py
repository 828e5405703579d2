"""The edits of many captions: given, from the grammar, or asked of a server once and kept."""

from __future__ import annotations

import hashlib
import io
import json
import time
import uuid
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from itertools import islice

import pyarrow as pa
import pyarrow.parquet as pq

from batch_jobs.ledger.lease import Lease
from batch_jobs.records import from_table, to_table
from engine.errors import OptionInvalid, RequestError, RewritingFailed
from storage.storage import Storage
from triplet_jobs.candidates import Rewrite
from triplet_jobs.captions import Caption
from triplet_jobs.chat import RECIPE, ChatRewriter
from triplet_jobs.config import TripletConfig
from triplet_jobs.grammar import Grammar
from triplet_jobs.rewriting import Rewriter, Rewriting

FOLDER = "rewrites"  # of the output: the parts with a server's answers
CAPTIONS_PER_PART = 256  # that a kill costs at most
Found = list[Rewriting] | RequestError
Rewritten = tuple[Caption, Found]


def rewrite_by(config: TripletConfig, storage: Storage) -> Rewrite:
    """Choose who rewrites captions; raises `OptionInvalid`."""
    seed, count = config.job.seed, config.rewrites
    if config.rewriter == "grammar":
        grammar = Grammar(seed, config.language, config.kind)
        return partial(rewritten, rewriter=grammar, count=count)
    if not config.rewriter.startswith(("http://", "https://")):
        raise OptionInvalid(
            f"rewriter must be grammar or an http(s) URL; got {config.rewriter!r}", param="rewriter"
        )
    if config.pairer == "programmatic":
        raise OptionInvalid(
            "programmatic edits are of the grammar's kinds: a server's have none", param="rewriter"
        )
    chat = ChatRewriter(config.rewriter, config.rewriter_model, seed)
    kept = KeptRewrites(storage, _recipe(config), config.job.retry in RETRIES)
    return partial(_asked, chat=chat, kept=kept, config=config)


RETRIES = ("all", RewritingFailed.code)  # of `--retry`: captions that failed are asked again


def given(caption: Caption) -> list[Rewriting] | None:
    """Take the edit that a caption brings itself, None where it brings none."""
    if caption.instruction is None:
        return None
    return [Rewriting("given", caption.instruction, caption.edited_text, caption.kind)]


def rewritten(captions: Iterable[Caption], rewriter: Rewriter, count: int) -> Iterator[Rewritten]:
    """Make the edits of each caption here, one after the other."""
    for caption in captions:
        yield caption, given(caption) or _found(rewriter, caption, count)


def _found(rewriter: Rewriter, caption: Caption, count: int) -> Found:
    try:
        return rewriter.rewrite(caption, count)
    except RewritingFailed as error:
        return error


def _asked(
    captions: Iterable[Caption], chat: ChatRewriter, kept: KeptRewrites, config: TripletConfig
) -> Iterator[Rewritten]:
    """Ask a server for what was not answered before, many captions at a time."""
    rest = iter(captions)
    kept.storage.make()
    with Lease(kept.storage) as lease, ThreadPoolExecutor(config.rewriter_requests) as pool:
        while part := list(islice(rest, CAPTIONS_PER_PART)):
            known = {one.id: given(one) or kept.find(one) for one in part}
            new = [one for one in part if known[one.id] is None and one.row["fault"] is None]
            jobs = [pool.submit(_found, chat, one, config.rewrites) for one in new]
            try:
                known |= {one.id: job.result() for one, job in zip(new, jobs, strict=True)}
            finally:  # where the server goes away, what it has answered stays
                for job in jobs:
                    job.cancel()
                for caption, job in zip(new, jobs, strict=True):
                    if not job.cancelled() and job.exception() is None:
                        kept.add(caption, job.result())
                lease.check()
                kept.flush()
            yield from ((one, known[one.id] or []) for one in part)


@dataclass(frozen=True, slots=True)
class KeptRewriting:
    """Holds what a server answered for a caption."""

    key: str  # see `KeptRewrites`
    name: str
    instruction: str | None = None
    edited_text: str | None = None
    error: str | None = None  # why there is no edit


@dataclass(slots=True)
class KeptRewrites:
    """Keeps a server's answers in the output of a job: it is asked once for each caption."""

    storage: Storage
    recipe: str  # all that an answer depends on beside caption and id
    again: bool = False  # captions that failed are asked again
    _pending: list[KeptRewriting] = field(default_factory=list)
    _known: dict[str, Found] | None = None

    def find(self, caption: Caption) -> Found | None:
        """Find the answers for a caption, None where it was not asked."""
        if self._known is None:
            self._known = self._read()
        return self._known.get(self._key(caption))

    def add(self, caption: Caption, found: Found) -> None:
        """Take the answers for a caption."""
        key = self._key(caption)
        if isinstance(found, RequestError):
            self._pending.append(KeptRewriting(key, "", error=found.message))
            return
        for one in found:
            self._pending.append(KeptRewriting(key, one.name, one.instruction, one.edited_text))

    def flush(self) -> None:
        """Write what was taken: all of it is there afterwards."""
        if not self._pending:
            return
        buffer = io.BytesIO()
        pq.write_table(to_table(KeptRewriting, self._pending), buffer, compression="zstd")
        name = f"{FOLDER}/{time.time_ns():020d}-{uuid.uuid4().hex[:8]}.parquet"
        self.storage.publish(name, buffer.getvalue())
        self._pending.clear()

    def _key(self, caption: Caption) -> str:
        said = json.dumps([caption.id, caption.text, self.recipe])
        return hashlib.sha256(said.encode()).hexdigest()[:32]

    def _read(self) -> dict[str, Found]:
        """Read all parts, the newest answer for a caption last."""
        known: dict[str, Found] = {}
        for path in self.storage.list(FOLDER, ".parquet"):
            table = pq.read_table(pa.BufferReader(self.storage.read(path)))
            of_part: dict[str, list[KeptRewriting]] = {}
            for one in from_table(KeptRewriting, table):
                of_part.setdefault(one.key, []).append(one)
            known |= {key: _found_in(answers) for key, answers in of_part.items()}
        if not self.again:
            return known
        return {key: found for key, found in known.items() if isinstance(found, list)}


def _found_in(answers: list[KeptRewriting]) -> Found:
    if answers[0].error is not None:
        return RewritingFailed(answers[0].error)
    return [Rewriting(one.name, one.instruction or "", one.edited_text) for one in answers]


def _recipe(config: TripletConfig) -> str:
    """Name what an answer depends on; a server may move without being asked again."""
    return json.dumps([RECIPE, config.rewriter_model, config.rewrites, config.job.seed])
