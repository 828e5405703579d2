"""Batches of edits, each its owner's alone: what was asked, and what their jobs tell.

Below the folder that `file_store` describes:

    clients/OWNER/batches/ID/order.json   what was asked; never changed
    clients/OWNER/batches/ID/cancel.json  there from the moment at which it was cancelled
    clients/OWNER/batches/ID/state.json   what the job tells: it alone writes, under its lease
    clients/OWNER/batches/ID/job/         the output of the job, until it is over
    open/ID.OWNER                         a batch that is not over

Nothing else is known of a batch, so it is the same for every process and after every restart.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal, TypeVar

from storage.file_store import CLIENTS, FileStore, new_token, page_of
from storage.storage import Storage

Status = Literal[
    "validating", "in_progress", "finalizing", "completed", "failed", "expired", "cancelled"
]
OVER: tuple[Status, ...] = ("completed", "failed", "expired", "cancelled")
OPEN = "open"
_BATCH_ID = re.compile(r"batch_[0-9a-f]{32}")
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class BatchOrder:
    """Says what was asked for. Times are unix time in seconds."""

    id: str
    input_file_id: str
    endpoint: str
    completion_window: str
    created_at: int
    expires_at: int
    model: str  # of lines that name none
    names: dict[str, str]  # all that a line may say -> the model that is meant
    jobs: dict[str, dict[str, Any]]  # by model, a `JobConfig`
    metadata: dict[str, str] | None = None
    output_lifetime_s: int | None = None  # of the files that it makes; None: until removed


@dataclass(frozen=True, slots=True)
class Fault:
    """Says what is wrong with a line, or with all of the input."""

    code: str
    message: str
    line: int | None = None  # from 1
    param: str | None = None


@dataclass(slots=True)
class BatchState:
    """Says how far a batch is. Times are unix time in seconds."""

    status: Status = "validating"
    model: str | None = None  # of all lines, once it is known
    total: int = 0  # lines
    completed: int = 0
    failed: int = 0
    errors: list[dict[str, Any]] = field(default_factory=list)  # of `Fault`
    output_file_id: str | None = None
    error_file_id: str | None = None
    in_progress_at: int | None = None
    finalizing_at: int | None = None
    completed_at: int | None = None
    failed_at: int | None = None
    expired_at: int | None = None
    cancelled_at: int | None = None

    @property
    def is_over(self) -> bool:
        return self.status in OVER


class BatchStore:
    """The batches of one owner. `clock` gives unix time in seconds.

    Raises `OSError` where storage fails.
    """

    def __init__(
        self, storage: Storage, owner: str, clock: Callable[[], float] = time.time
    ) -> None:
        self.storage, self.owner, self.clock = storage, owner, clock
        self._folder = f"{CLIENTS}/{owner}/batches"

    @property
    def files(self) -> FileStore:
        """Open the files of this owner."""
        return FileStore(self.storage, self.owner, self.clock)

    def new_id(self) -> str:
        """Make the id of a batch."""
        return f"batch_{new_token(self.clock())}"

    def create(self, order: BatchOrder) -> None:
        """Have a batch be there, and be done: it is there as soon as its order is."""
        self.storage.publish(f"{OPEN}/{order.id}.{self.owner}", b"")
        self.storage.publish(self._path(order.id, "order"), _as_json(order))

    def order(self, id: str) -> BatchOrder | None:
        """Find what was asked for; None where this owner has no such batch."""
        return self._read(BatchOrder, id, "order") if _BATCH_ID.fullmatch(id) else None

    def state(self, id: str) -> BatchState:
        """Read how far a batch is."""
        return self._read(BatchState, id, "state") or BatchState()

    def tell(self, id: str, state: BatchState) -> None:
        """Write how far a batch is: for its job alone."""
        self.storage.publish(self._path(id, "state"), _as_json(state))

    def cancel(self, id: str) -> None:
        """Ask the job of a batch to end; the first time that it is asked counts."""
        now = json.dumps(int(self.clock())).encode()
        self.storage.publish_new(self._path(id, "cancel"), now)

    def cancelling_at(self, id: str) -> int | None:
        """Tell when a batch was cancelled, where it was."""
        try:
            return int(json.loads(self.storage.read(self._path(id, "cancel"))))
        except FileNotFoundError:
            return None

    def page(self, after: str | None, limit: int) -> tuple[list[BatchOrder], bool]:
        """List the newest batches behind `after`; returns whether there are more."""
        ids = [path.rpartition("/")[2] for path in self.storage.list(self._folder)]
        page, has_more = page_of(ids, after, limit, "desc")
        return [order for order in map(self.order, page) if order is not None], has_more

    def folder(self, id: str, name: str = "") -> Storage:
        """Open the folder of a batch, or one in it."""
        return Storage(self.storage.uri(f"{self._folder}/{id}/{name}"))

    def close(self, id: str) -> None:
        """Have a batch be over: what its job needed is removed."""
        self.storage.remove_folder(f"{self._folder}/{id}/job")
        self.storage.remove(f"{OPEN}/{id}.{self.owner}")

    def _read(self, kind: type[T], id: str, name: str) -> T | None:
        try:
            found: dict[str, Any] = json.loads(self.storage.read(self._path(id, name)))
        except FileNotFoundError:
            return None
        # what a later version has added is left out
        known = {one.name for one in fields(kind)}  # type: ignore[arg-type]
        return kind(**{key: value for key, value in found.items() if key in known})

    def _path(self, id: str, name: str) -> str:
        return f"{self._folder}/{id}/{name}.json"


def _as_json(kept: Any) -> bytes:
    return json.dumps(asdict(kept), indent=1).encode()


def open_batches(storage: Storage) -> list[tuple[str, str]]:
    """List the owner and the id of every batch that is not over, the oldest first."""
    names = [path.rpartition("/")[2] for path in storage.list(OPEN)]
    parts = [name.partition(".") for name in names]
    return [(owner, id) for id, _, owner in parts if _BATCH_ID.fullmatch(id)]
