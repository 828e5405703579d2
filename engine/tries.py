"""Edits whose guidance sets itself: each is judged, and tried again while something is wrong.

A try is an edit like any other, with the seed of the first: it joins at a step boundary, and its
mates do not wait for it. The best of them is the outcome.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch

from engine.correction import Scales
from engine.edit import EditFailure, EditOutcome, EditRequest, EditResult, Guided
from engine.errors import InternalError
from engine.guidance import branches
from engine.isolation import isolate
from engine.models import Editor, Judging
from engine.quality.verdict import FOLLOWED_FAR, FOLLOWED_FAST, FOLLOWED_NEAR, Judged
from engine.spec import ModelSpec

MOST_TRIES = 3
_ONE_BRANCH = Scales(1.0, 1.0)


@dataclass(frozen=True, slots=True)
class _Try:
    scales: Scales
    judged: Judged
    result: EditResult


@dataclass(slots=True)
class _Edit:
    """An edit on its way: the try that runs, and those before it."""

    request: EditRequest  # of the try that runs
    asked: Scales  # that it came with
    deadline_s: float  # on the clock
    begun_s: float  # when this try arrived
    tried: list[_Try] = field(default_factory=list)
    fault: BaseException | None = None

    def next_request(self, spec: ModelSpec, now_s: float) -> EditRequest | None:
        """Return the request of another try; None where it is right, or no try or time is left."""
        last, own = self.tried[-1], Scales.own(spec)
        verdict = last.judged.verdict(self._followed(last.scales, own))
        scales = last.scales.corrected(verdict, own)
        if verdict != "right" and all(self.asked != one.scales for one in self.tried):
            scales = self.asked
        if len(self.tried) == MOST_TRIES or any(scales == one.scales for one in self.tried):
            return None
        before, options = self.request.options, scales.on(self.request.options)
        rows = [len(branches(spec.guidance, one)) for one in (before, options)]
        left_s = self.deadline_s - now_s
        if left_s <= (now_s - self.begun_s) * rows[1] / rows[0]:
            return None
        timeout_s = None if math.isinf(left_s) else left_s
        return replace(self.request, options=options, timeout_s=timeout_s, partial_images=0)

    def _followed(self, scales: Scales, own: Scales) -> float:
        if self.request.options.auto_guidance == "fast" and scales == _ONE_BRANCH != self.asked:
            return FOLLOWED_FAST
        return FOLLOWED_FAR if scales.is_far(own) else FOLLOWED_NEAR

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

    @torch.inference_mode()
    def begin(self, request: EditRequest) -> EditRequest:
        """Return what joins the batch of a request: its first try, where its guidance sets itself.

        With `fast` a try of one branch, where the model's judge will know what to make of it.
        """
        if request.options.auto_guidance == "off" or request.id in self._edits:
            return request
        now_s, asked = self._clock(), Scales.of(request.options)
        timeout_s = math.inf if request.timeout_s is None else request.timeout_s
        if request.options.auto_guidance == "fast" and self._following(request, [request.pixels]):
            request = replace(request, options=_ONE_BRANCH.on(request.options))
        self._edits[request.id] = _Edit(request, asked, now_s + timeout_s, now_s)
        return request

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
        again = edit.next_request(self._editor.spec, now_s)
        if again is None:
            return edit.result()
        edit.request, edit.begun_s = again, now_s
        self._edits[outcome.id] = edit
        return again

    def _judged(self, request: EditRequest, result: EditResult) -> _Try:
        if result.reconstructed is None:
            raise InternalError("the model returned no reconstruction of the source")
        following = self._following(request, result.images)
        judged = Judged.of(result.images, result.reconstructed, following)
        return _Try(Scales.of(request.options), judged, result)

    def _following(
        self, request: EditRequest, images: Sequence[np.ndarray]
    ) -> Sequence[float] | None:
        """What the model's judge says of images; None where there is none, or it cannot tell."""
        if not isinstance(self._editor, Judging):
            return None
        return self._editor.following(request, images)
