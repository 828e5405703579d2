"""One edit on its way through this process: its deadline, its times, how it ended."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field

from engine.edit import EditFailure, EditResult
from engine.errors import Cancelled, DeadlineExceeded, ImageError, InternalError
from engine.options import ResolvedOptions
from engine.registry import ModelSpec
from serve_app.config import ServeConfig
from serve_app.errors import failure_of
from serve_app.ingress.admission import HOLD_S, Admission, cost_of


@dataclass(slots=True)
class Flight:
    """`code`: "ok" or the error's; `key`: the name of the API key.

    Times in seconds; `wait_s` is what the edit spent at a replica and on its way there beside
    `model_s`, from its first model call to its last.
    """

    deadline: float  # on the event loop's clock
    started: float = field(default_factory=time.monotonic)
    key: str = ""
    inside: bool = False  # it has a place
    stream: bool = False
    code: str = "ok"
    status: int = 200
    steps: int = 0
    num_images: int = 0
    cost: float = 0.0
    batch_size: int = 0
    read_s: float = 0.0
    decode_s: float = 0.0
    replica_s: float = 0.0
    model_s: float = 0.0
    encode_s: float = 0.0
    total_s: float = 0.0

    @property
    def wait_s(self) -> float:
        return max(self.replica_s - self.model_s, 0.0) if self.model_s else 0.0

    @property
    def ended(self) -> bool:
        return self.total_s > 0

    @property
    def left_s(self) -> float:
        """Seconds until the deadline."""
        return max(self.deadline - asyncio.get_running_loop().time(), 0.0)

    @contextmanager
    def timed(self, name: str) -> Iterator[None]:
        """Add the seconds that the block takes to `name`."""
        start = time.monotonic()
        try:
            yield
        finally:
            setattr(self, name, getattr(self, name) + time.monotonic() - start)


# Called with a flight that came in, was admitted or ended, the edits that are held now, and how
# long they will take in s.
Observe = Callable[[Flight, int, float], None]


class Flights:
    """Those of one process; `observe` is told of each."""

    def __init__(self, config: ServeConfig, spec: ModelSpec, observe: Observe) -> None:
        self._deadline_s = config.deadline_s
        self._spec = spec
        self._observe = observe
        self._admission = Admission(
            config.max_in_flight,
            2 * config.engine.max_batch_size,
            config.max_wait_s,
            config.deadline_s,
            HOLD_S if config.ingress_replicas == 1 else 0.0,  # another one may have room
        )

    def board(self) -> Flight:
        return Flight(asyncio.get_running_loop().time() + self._deadline_s)

    def enter(self, flight: Flight) -> None:
        """Take a place; raises `EditFailed` when there is none."""
        self._admission.enter()
        flight.inside = True
        self._tell(flight)

    def admit(self, flight: Flight, options: ResolvedOptions) -> None:
        """Before anything is decoded; raises `EditFailed` where it would wait too long."""
        flight.steps = options.num_inference_steps
        flight.num_images = options.num_images
        cost = cost_of(options, self._spec)
        self._admission.admit(cost)
        flight.cost = cost
        self._tell(flight)

    def made(self, flight: Flight, result: EditResult) -> None:
        """The model has done its part."""
        flight.model_s, flight.batch_size = result.model_s, result.batch_size
        self._admission.edited(flight.cost, result.model_s)

    def land(self, flight: Flight, error: BaseException | None = None) -> None:
        """The edit has ended, with its answer or with `error`."""
        if flight.decode_s and (error is None or isinstance(error, ImageError)):
            self._admission.coded(flight.decode_s + flight.encode_s)
        if flight.inside:
            self._admission.leave(flight.cost)
        if error is not None:
            gone = isinstance(error, asyncio.CancelledError | GeneratorExit)
            failure = EditFailure.of("", Cancelled("")) if gone else failure_of(error)
            flight.code, flight.status = failure.code, failure.status
        flight.total_s = time.monotonic() - flight.started
        self._tell(flight)

    def _tell(self, flight: Flight) -> None:
        self._observe(flight, self._admission.held, self._admission.wait_s)

    @asynccontextmanager
    async def limit(self, flight: Flight) -> AsyncIterator[None]:
        """Raises `DeadlineExceeded` where the block outlasts the flight's deadline."""
        try:
            async with asyncio.timeout_at(flight.deadline) as deadline:
                yield
        except TimeoutError as error:
            if not deadline.expired():
                raise InternalError(f"TimeoutError: {error}") from error
            raise DeadlineExceeded(
                f"the edit was not done within {self._deadline_s:g} s and was given up; "
                "ask for fewer steps or images, or try when the server is less busy"
            ) from None
