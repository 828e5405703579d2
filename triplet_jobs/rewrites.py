"""The edits of many captions: given, from the grammar, or a language model's, which are kept."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import islice
from pathlib import Path

from batch_jobs.ledger.lease import Lease
from batch_jobs.records import from_table, to_table
from engine.errors import OptionInvalid, RewritingFailed
from storage.storage import Storage
from triplet_jobs.candidates import Rewrite
from triplet_jobs.captions import Caption
from triplet_jobs.chat import ChatRewriter
from triplet_jobs.config import TripletConfig
from triplet_jobs.folder_rewriter import Question, RewriteOrder, RunRewriting, find_language_model
from triplet_jobs.grammar import Grammar
from triplet_jobs.kept_rewrites import KeptRewrites, KeptRewriting
from triplet_jobs.prompt import RECIPE
from triplet_jobs.rewriting import GIVEN, Found, Rewriter, Rewriting

CAPTIONS_PER_PART = 256  # that a kill costs at most
RETRIES = ("all", RewritingFailed.code)  # of `--retry`: captions that failed are asked again
Rewritten = tuple[Caption, Found]


def rewrite_by(config: TripletConfig, storage: Storage, run: RunRewriting) -> Rewrite:
    """Choose who rewrites captions; `run`: where a folder's model is at work.

    Raises `OptionInvalid`, and `ModelError` for a folder without a language model.
    """
    seed, count, rewriter = config.job.seed, config.rewrites, config.rewriter
    if rewriter == "grammar":
        grammar = Grammar(seed, config.language, config.kind)
        return partial(rewritten, rewriter=grammar, count=count)
    is_served = rewriter.startswith(("http://", "https://"))
    if not is_served and not Path(rewriter).exists():
        raise OptionInvalid(
            "rewriter must be grammar, an http(s) URL, or the folder of a language model; got "
            f"{rewriter!r}",
            param="rewriter",
        )
    if config.pairer == "programmatic":
        raise OptionInvalid(
            "programmatic edits are of the grammar's kinds: a language model's have none",
            param="rewriter",
        )
    if is_served:
        chat = ChatRewriter(rewriter, config.rewriter_model, seed)
        kept = _kept(config, storage, config.rewriter_model)
        return partial(_asked, chat=chat, kept=kept, config=config)
    if config.rewriter_model is not None:
        raise OptionInvalid("rewriter_model is asked of a server: leave it out", param="rewriter")
    kept = _kept(config, storage, find_language_model(Path(rewriter)))
    return partial(_answered, run=run, kept=kept, order=RewriteOrder.of(config))


def given(caption: Caption) -> list[Rewriting] | None:
    """Take the edit that a caption brings itself, None where it brings none."""
    if caption.instruction is None:
        return None
    return [Rewriting(GIVEN, caption.instruction, caption.edited_text, caption.kind)]


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
            new = [one for one in part if _is_new(one, kept)]
            jobs = [pool.submit(_found, chat, one, config.rewrites) for one in new]
            try:
                for job in jobs:
                    job.result()
            finally:  # where the server goes away, what it has answered stays
                for job in jobs:
                    job.cancel()
                for caption, job in zip(new, jobs, strict=True):
                    if not job.cancelled() and job.exception() is None:
                        kept.add(KeptRewriting.all_of(kept.key(caption), job.result()))
                lease.check()
                kept.flush()
            yield from ((one, _known(one, kept)) for one in part)


def _answered(
    captions: Iterable[Caption], run: RunRewriting, kept: KeptRewrites, order: RewriteOrder
) -> Iterator[Rewritten]:
    """Have a folder's model, which is loaded once, answer all that was not answered before."""
    everything = list(captions)
    asked = [Question(kept.key(one), one.id, one.text) for one in everything if _is_new(one, kept)]
    if asked:
        kept.storage.make()
        with Lease(kept.storage) as lease:
            try:
                for answers in run(order, to_table(Question, asked)):
                    waiting = kept.add(from_table(KeptRewriting, answers))
                    if waiting >= CAPTIONS_PER_PART * order.count:
                        lease.check()
                        kept.flush()
            finally:
                lease.check()
                kept.flush()
    yield from ((one, _known(one, kept)) for one in everything)


def _is_new(caption: Caption, kept: KeptRewrites) -> bool:
    is_asked = caption.row["fault"] is None and caption.instruction is None
    return is_asked and kept.find(caption) is None


def _known(caption: Caption, kept: KeptRewrites) -> Found:
    return given(caption) or kept.find(caption) or []


def _kept(config: TripletConfig, storage: Storage, model: str | None) -> KeptRewrites:
    """`model`: the name, or digest, that answers depend on; a server may move without being asked
    again."""
    recipe = json.dumps([RECIPE, model, config.rewrites, config.job.seed])
    return KeptRewrites(storage, recipe, config.job.retry in RETRIES)
