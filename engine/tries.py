"""Edits whose guidance sets itself: each is judged, and tried again while something is wrong.

A try is an edit like any other, with the seed of the first: it joins at a step boundary, and its
mates do not wait for it. The best of them is the outcome.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace

import torch

from engine.correction import Scales
from engine.edit import EditFailure, EditOutcome, EditRequest, EditResult, Guided
from engine.errors import InternalError
from engine.isolation import isolate
from engine.models import Editor, Judging
from engine.quality.verdict import Judged

MOST_TRIES = 3


@dataclass(frozen=True, slots=True)
class _Try:
    scales: Scales
    judged: Judged
    result: EditResult


@dataclass(slots=True)
class _Edit:
    """An edit on its way: the try that runs, and those before it."""

    request: EditRequest  # of the try that runs
    deadline_s: float  # on the clock
    begun_s: float  # when this try arrived
    tried: list[_Try] = field(default_factory=list)
    fault: BaseException | None = None

    def next_request(self, own: Scales, now_s: float) -> EditRequest | None:
        """Return the request of another try; None where it is right, or no try or time is left."""
        last = self.tried[-1]
        verdict = last.judged.verdict(last.scales.is_far(own))
        scales = last.scales.corrected(verdict, own)
        is_new = all(scales != one.scales for one in self.tried)
        left_s = self.deadline_s - now_s
        if not is_new or len(self.tried) == MOST_TRIES or left_s <= now_s - self.begun_s:
            return None
        options = scales.on(self.request.options)
        timeout_s = None if math.isinf(left_s) else left_s
        return replace(self.request, options=options, timeout_s=timeout_s, partial_images=0)

    def result(self) -> EditResult:
        """Return the best of its tries, of equal ones the first, and what it took to find it."""
        best = max(self.tried, key=lambda one: one.judged.score)
        judged, results = best.judged, [one.result for one in self.tried]
        codes = ("following_unmeasured",) if judged.following is None else ()
        scales = best.scales
        return replace(
            best.result,
            warnings=(*best.result.warnings, *codes),
            batch_size=max(result.batch_size for result in results),
            model_s=sum(result.model_s for result in results),
            guided=Guided(
                len(self.tried), scales.text, scales.image, judged.following, judged.keeping
            ),
        )


class Tries:
    """Judges the outcomes of edits that ask for it. For the denoising thread alone."""

    def __init__(self, editor: Editor, clock: Callable[[], float] = time.monotonic) -> None:
        """`clock` gives seconds."""
        self._editor = editor
        self._clock = clock
        self._edits: dict[str, _Edit] = {}

    def begin(self, request: EditRequest) -> None:
        """Note a request that joins the batch, where its guidance is to set itself."""
        if request.options.auto_guidance == "off" or request.id in self._edits:
            return
        now_s = self._clock()
        timeout_s = math.inf if request.timeout_s is None else request.timeout_s
        self._edits[request.id] = _Edit(request, now_s + timeout_s, now_s)

    def forget(self, ids: Iterable[str]) -> None:
        """Drop edits that nobody waits for."""
        for id in ids:
            self._edits.pop(id, None)

    @torch.inference_mode()
    def settle(self, outcome: EditOutcome) -> EditRequest | EditOutcome:
        """Return the request of an edit's next try; its outcome where there is none.

        A try that fails leaves what those before it gave.
        """
        edit = self._edits.pop(outcome.id, None)
        if edit is None:
            return outcome
        if isinstance(outcome, EditFailure):
            return edit.result() if edit.tried else outcome

        def judge(_: Sequence[EditResult]) -> None:
            edit.tried.append(self._judged(edit.request, outcome))

        def fail(_: EditResult, error: BaseException) -> None:
            edit.fault = error

        isolate(judge, [outcome], fail)
        if edit.fault is not None:
            return EditFailure.of(outcome.id, edit.fault)
        now_s = self._clock()
        again = edit.next_request(Scales.own(self._editor.spec), now_s)
        if again is None:
            return edit.result()
        edit.request, edit.begun_s = again, now_s
        self._edits[outcome.id] = edit
        return again

    def _judged(self, request: EditRequest, result: EditResult) -> _Try:
        if result.reconstructed is None:
            raise InternalError("the model returned no reconstruction of the source")
        following = None
        if isinstance(self._editor, Judging):
            following = self._editor.following(request, result.images)
        judged = Judged.of(result.images, result.reconstructed, following)
        return _Try(Scales.of(request.options), judged, result)
