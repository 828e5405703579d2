"""The decision whether an edit may join, and when one that may not should try again."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Collection, Mapping

from engine.correction import Scales
from engine.errors import DeadlineExceeded, ImageError, Overloaded
from engine.guidance import branches
from engine.options import ResolvedOptions
from engine.spec import ModelSpec
from serve_app.ingress.backlog import Backlog
from serve_app.ingress.model_queue import Limits, Queue, latest_s
from serve_app.ingress.record import EditRecord

# Called with an edit that entered, was admitted or left, the edits that are in flight now, and how
# long those of its model will take in s: 0 before the model is known.
Observe = Callable[[EditRecord, int, float], None]


# Of `auto_guidance`, from scales near the model's own and from others, as counted with pocket
# (benchmarks/RESULTS.md). The mean and not the most, which is 3: few edits take them, what could be
# made would be refused, and a try that would be late is not begun.
MEAN_TRIES_NEAR, MEAN_TRIES_FAR = 1.1, 2.0


def cost_of(options: ResolvedOptions, spec: ModelSpec) -> float:
    """Estimate the work of an edit: steps x pixels x images x branches x tries.

    Without a size the canvas has about the model's own pixels.
    """
    width, height = options.size_px or (spec.resolution, spec.resolution)
    count = options.num_images * len(branches(spec.guidance, options))
    return float(options.num_inference_steps * width * height * count) * _mean_tries(options, spec)


def _mean_tries(options: ResolvedOptions, spec: ModelSpec) -> float:
    """`fast` counts as `on`: it takes as many where the model has no judge, or that knows nothing
    of the edit."""
    if options.auto_guidance == "off":
        return 1.0
    is_far = Scales.of(options).is_far(Scales.own(spec))
    return MEAN_TRIES_FAR if is_far else MEAN_TRIES_NEAR


class Admission:
    """Admits edits to this process, or refuses them with the time to come back.

    It counts those in flight, and estimates how long their work takes: for each model in the unit
    of `cost_of`, for the processes that decode and encode in edits. It refuses the edit after
    `max_in_flight` of its model; with `min_in_flight` of them there, what would wait longer than
    `max_wait_s` for its turn; and, unless it is alone, what would not be done within `deadline_s`.
    An edit that has not said its model yet may be of any: it is refused where each would refuse it.

    `limits`: by the name of each model; `clock` gives seconds.
    """

    def __init__(
        self,
        limits: Mapping[str, Limits],
        deadline_s: float,
        observe: Observe = lambda *_: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._queues = {name: Queue(each, Backlog(clock)) for name, each in limits.items()}
        self._places = sum(each.max_in_flight for each in limits.values())
        self._deadline_s, self._observe = deadline_s, observe
        self._codec = Backlog(clock)
        self.in_flight = 0

    def wait_s(self, model: str) -> float:
        """Estimate in how many seconds what is in flight of a model is done; 0 until an edit was
        made. All models share the processes that decode and encode."""
        ahead = [edit for queue in self._queues.values() for edit in queue.admitted.values()]
        codec_s = min(self._codec.seconds(len(ahead)), latest_s(ahead))
        return max(self._queues[model].seconds, codec_s)

    def enter(self, record: EditRecord, *, body_is_small: bool = False) -> None:
        """Take a place, before the body is read. Raises `Overloaded` when there is none, or when
        whatever came now would wait too long; a small body is read first, so that what is wrong
        with it is said."""
        if self.in_flight >= self._places:
            soonest = min(self._queues, key=self.wait_s)
            raise self._refusal(soonest, f"{self.in_flight} edits are in flight already")
        if not body_is_small:
            self._refuse_a_long_wait(self._queues, self.in_flight)
        self.in_flight += 1
        record.has_place = True
        self._tell(record)

    def admit(self, record: EditRecord, cost: float) -> None:
        """Queue the work of an edit that has a place and a model, before its source is decoded.
        Raises `Overloaded` where it would wait too long."""
        queue = self._queues[record.model]
        self._refuse_a_long_wait([record.model], self.in_flight - 1)  # others came in meanwhile
        held = len(queue.admitted)
        if held >= queue.limits.max_in_flight:
            raise self._refusal(
                record.model, f"{held} edits by {record.model} are in flight already"
            )
        total_s = self.wait_s(record.model) + queue.rate.seconds(cost)
        if held and total_s > self._deadline_s:
            raise self._refusal(
                record.model,
                f"with what is queued ahead the edit would take about {total_s:.0f} s, more than "
                f"the {self._deadline_s:g} s it may; ask for fewer steps or images",
            )
        record.cost = cost
        for other in [edit for each in self._queues.values() for edit in each.admitted.values()]:
            record.had_company = other.had_company = True
        queue.admitted[id(record)] = record
        self._tell(record)

    def edited(self, record: EditRecord) -> None:
        """Learn the model's rate from an edit that it has made, in `record.model_s`."""
        self._queues[record.model].rate.done(record.cost, record.model_s)

    def leave(self, record: EditRecord, error: BaseException | None = None) -> None:
        """End an edit with its answer, or with `error`, and give back the place that it has.

        One that was late though it had the machine to itself would be late again: its error is not
        one to retry.
        """
        if record.decode_s and (error is None or isinstance(error, ImageError)):
            self._codec.done(1, record.decode_s + record.encode_s)
        queue = self._queues.get(record.model)
        was_admitted = queue and queue.admitted.pop(id(record), None)
        if queue and was_admitted and isinstance(error, DeadlineExceeded):
            error.retryable = record.had_company and not queue.is_hopeless(record)
        if record.has_place:
            self.in_flight -= 1
        record.end(error)
        self._tell(record)

    def _tell(self, record: EditRecord) -> None:
        known = record.model in self._queues
        self._observe(record, self.in_flight, self.wait_s(record.model) if known else 0.0)

    def _refuse_a_long_wait(self, models: Collection[str], in_flight: int) -> None:
        """Raise `Overloaded` where an edit by any of `models` would wait too long; `in_flight`: the
        others in this process."""
        if all(self._is_long(model, in_flight) for model in models):
            soonest = min(models, key=self.wait_s)
            wait_s = self.wait_s(soonest)
            raise self._refusal(soonest, f"about {wait_s:.0f} s of work are queued ahead")

    def _is_long(self, model: str, in_flight: int) -> bool:
        """Tell whether the wait for a model is too long: of those in flight all count that are not
        known to be another model's."""
        queue = self._queues[model]
        others = sum(len(each.admitted) for each in self._queues.values() if each is not queue)
        limits = queue.limits
        return in_flight - others >= limits.min_in_flight and self.wait_s(model) > limits.max_wait_s

    def _refusal(self, model: str, reason: str) -> Overloaded:
        has_rate = self._queues[model].rate.has_rate
        guess_s = self.wait_s(model) if has_rate else self._deadline_s
        wait_s = max(math.ceil(round(guess_s, 3)), 1)
        return Overloaded(f"{reason}; try again in {wait_s} s", retry_after_s=wait_s)
