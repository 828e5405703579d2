"""One edit on its way through this process: its deadline, its times, how it ended."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field

from engine.errors import DeadlineExceeded, InternalError
from serve_app.errors import engine_error


@dataclass(slots=True)
class EditRecord:
    """Tells how far an edit is, and how it ended: the log and the metrics are written from it."""

    deadline_s: float  # from `started_s`
    started_s: float = field(default_factory=time.monotonic)
    key: str = ""  # the name of its API key
    model: str = ""  # as it is served; known once the body is read
    has_place: bool = False
    had_company: bool = False  # another edit was admitted while this one was
    stream: bool = False
    replayed: bool = False  # its answer was kept for its idempotency key
    code: str = "ok"  # or the error's
    status: int = 200
    steps: int = 0
    num_images: int = 0
    cost: float = 0.0  # of `cost_of`, once it is admitted
    batch_size: int = 0  # the most samples that shared a model call with it
    read_s: float = 0.0
    decode_s: float = 0.0
    replica_s: float = 0.0  # at a replica, and on the way there and back
    model_s: float = 0.0  # from the first model call to the last
    encode_s: float = 0.0
    total_s: float = 0.0

    @property
    def wait_s(self) -> float:
        """Sum the seconds at a replica, and on the way there, in which no model worked on it."""
        return max(self.replica_s - self.model_s, 0.0) if self.model_s else 0.0

    @property
    def has_ended(self) -> bool:
        return self.total_s > 0

    @property
    def left_s(self) -> float:
        """Count the seconds until the deadline."""
        return max(self.started_s + self.deadline_s - time.monotonic(), 0.0)

    def end(self, error: BaseException | None = None) -> None:
        """Note that the edit has its answer, or ended with `error`."""
        if error is not None:
            named = engine_error(error)
            self.code, self.status = named.code, named.status
        self.total_s = time.monotonic() - self.started_s

    @contextmanager
    def timed(self, name: str) -> Iterator[None]:
        """Add the seconds that the block takes to the field `name`."""
        start_s = time.monotonic()
        try:
            yield
        finally:
            setattr(self, name, getattr(self, name) + time.monotonic() - start_s)

    @asynccontextmanager
    async def within_deadline(self) -> AsyncIterator[None]:
        """End the block at the deadline; raises `DeadlineExceeded` then."""
        try:
            async with asyncio.timeout(self.left_s) as deadline:
                yield
        except TimeoutError as error:
            if not deadline.expired():
                raise InternalError(f"TimeoutError: {error}") from error
            raise DeadlineExceeded(
                f"the edit was not done within {self.deadline_s:g} s and was given up; "
                "ask for fewer steps or images, or try when the server is less busy"
            ) from None
