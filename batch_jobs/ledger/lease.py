"""One job at a time for one output: a lease that names its owner and beats while it lives.

Leases are numbered files, `lease/00000001.json` and on; **the highest number owns the output**. An
owner that ends marks its file as left, a new one writes the next number. Storage creates a file
only once, so of many that write the same number one succeeds; and since the highest stays when it
is left, no number is ever free again. Lower ones are removed by the next owner.
"""

from __future__ import annotations

import logging
import posixpath
import threading
import time
from dataclasses import replace
from typing import Self

from batch_jobs.ledger.owner import Owner
from engine.errors import OutputBusy
from storage.storage import Storage

logger = logging.getLogger(__name__)

FOLDER = "lease"
BEAT_EVERY_S = 5.0
DEAD_AFTER_S = 30.0  # six beats: a remote owner that missed them is gone


class Lease:
    """Owns an output for the length of a `with` block; raises `OutputBusy` naming a living owner.

    An owner on this machine is looked up by pid and start. Any other is watched: if its beat stands
    still for `dead_after_s`, it is dead. No clocks are compared.
    """

    def __init__(
        self,
        storage: Storage,
        dead_after_s: float = DEAD_AFTER_S,
        beat_every_s: float = BEAT_EVERY_S,
    ) -> None:
        self._storage = storage
        self._beat_every_s = beat_every_s
        self._dead_after_s = dead_after_s
        self._owner = Owner()
        self._path = ""
        self._lost = False
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._keep_beating, name="lease", daemon=True)

    def __enter__(self) -> Self:
        earlier = _files(self._storage)
        owner = _owner_in(self._storage, earlier)
        if owner is not None and is_alive(owner, self._storage, self._dead_after_s):
            raise OutputBusy(
                f"{self._storage.url} is in use by process {owner.pid} on {owner.host}; "
                "wait for it, or give another output"
            )
        self._path = _next_file(earlier)
        self._storage.publish_new(self._path, self._owner.as_json())
        if not self._is_mine():
            raise OutputBusy(f"another job took {self._storage.url} at the same moment")
        for path in earlier:
            self._storage.remove(path)
        self._thread.start()
        return self

    def check(self) -> None:
        """Raise `OutputBusy` where another has taken the output over, as after a standstill of this
        process: storage is asked, since the beat stood still too."""
        if self._lost or not self._is_mine():
            raise OutputBusy(f"another job has taken {self._storage.url} over meanwhile")

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()
        try:
            if self._is_mine():
                self._write(replace(self._owner, has_left=True))
        except OSError:  # such as a full disk: the next job sees that this process has ended
            logger.warning("the lease could not be given back", exc_info=True)

    def _keep_beating(self) -> None:
        while not self._done.wait(self._beat_every_s):
            try:
                if not self._is_mine():
                    self._lost = True
                    return
                self._write(replace(self._owner, beat=self._owner.beat + 1))
            except Exception:  # storage may come back before anybody takes over
                logger.warning("the lease could not be renewed", exc_info=True)

    def _write(self, owner: Owner) -> None:
        self._owner = owner
        self._storage.publish(self._path, owner.as_json())

    def _is_mine(self) -> bool:
        """Tell whether this lease is the highest, and not another's of the same number."""
        files = _files(self._storage)
        owner = _owner_in(self._storage, files)
        is_highest = files[-1:] == [self._path]
        return is_highest and owner is not None and owner.token == self._owner.token


def owner_of(storage: Storage) -> Owner | None:
    """Return the owner of an output, alive or not; None where it was given back."""
    return _owner_in(storage, _files(storage))


def is_alive(owner: Owner, storage: Storage, watch_s: float) -> bool:
    """Tell whether an owner lives, or another has taken its place; a remote one is watched for
    `watch_s` seconds."""
    if owner.is_local():
        return owner.runs()
    deadline = time.monotonic() + watch_s
    while time.monotonic() < deadline:
        time.sleep(min(1.0, watch_s / 5))
        now = owner_of(storage)
        if now is None:
            return False
        if (now.token, now.beat) != (owner.token, owner.beat):
            return True
    return False


def _files(storage: Storage) -> list[str]:
    """List the leases of an output, the highest number last."""
    return storage.list(FOLDER, ".json")


def _next_file(files: list[str]) -> str:
    number = int(posixpath.basename(files[-1]).partition(".")[0]) if files else 0
    return f"{FOLDER}/{number + 1:08}.json"


def _owner_in(storage: Storage, files: list[str]) -> Owner | None:
    try:
        owner = Owner.of_json(storage.read(files[-1])) if files else None
    except FileNotFoundError:  # the next owner has removed it: the next number is not free
        return None
    return None if owner is None or owner.has_left else owner
