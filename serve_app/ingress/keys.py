"""API keys: who may ask, and how often. Only their sha256 digests are ever kept."""

from __future__ import annotations

import hashlib
import hmac
import math
import os
import re
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

from engine.errors import OptionInvalid
from serve_app.config import ServeConfig
from serve_app.errors import KeyInvalid, RateLimited

KEYS_VARIABLE = "RAYEDIT_API_KEYS"
_DIGEST = re.compile(r"[0-9a-f]{64}")


class Key(NamedTuple):
    """An API key, which itself is not known."""

    digest: str  # its sha256 in hex
    name: str  # what it is called in logs


class ApiKeys:
    """Knows who may ask, and how often.

    `names`: the sha256 (hex) of each key -> what it is called in logs; without any, everybody may
    ask. A key may make `per_minute` edits a minute, and as many at once, of which each of `shares`
    processes like this one grants its part; `clock` gives seconds.
    """

    def __init__(
        self,
        names: Mapping[str, str],
        per_minute: float | None = None,
        shares: int = 1,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._names = dict(names)
        self._per_minute, self._shares = per_minute, shares
        self._clock = clock
        self._buckets: dict[str, tuple[float, float]] = {}  # digest -> edits left, as of when

    def __bool__(self) -> bool:
        return bool(self._names)

    @classmethod
    def load(cls, config: ServeConfig) -> ApiKeys:
        """Read the keys of the config's file and of the environment: a line each (in the
        environment also commas), a digest and a name as `sha256sum` prints them. Raises
        `OptionInvalid`."""
        lines = os.environ.get(KEYS_VARIABLE, "").replace(",", "\n").splitlines()
        names = _parse(lines, KEYS_VARIABLE)
        if (file := config.api_keys_file) is not None:
            try:
                text = Path(file).read_text()
            except (OSError, UnicodeDecodeError) as error:
                raise OptionInvalid(
                    f"cannot read the API keys of {file}: {error}", param="api_keys_file"
                ) from None
            names |= _parse(text.splitlines(), file)
            if not names:
                raise OptionInvalid(f"{file} holds no API key", param="api_keys_file")
        return cls(names, config.requests_per_minute, config.ingress_replicas)

    def check(self, authorization: str | None) -> Key:
        """Find the key of an `Authorization` header; raises `KeyInvalid`."""
        if not self._names:
            return Key("", "")
        scheme, _, key = (authorization or "").strip().partition(" ")
        if scheme.lower() != "bearer" or not key.strip():
            raise KeyInvalid("no API key was sent; send it as `Authorization: Bearer KEY`")
        digest = hashlib.sha256(key.strip().encode()).hexdigest()
        found = [known for known in self._names if hmac.compare_digest(known, digest)]
        if not found:
            raise KeyInvalid("the API key is not one of this server's; check it")
        return Key(found[0], self._names[found[0]])

    def spend(self, key: Key) -> None:
        """Count one edit of `key`; raises `RateLimited` above its rate."""
        if not self._names or self._per_minute is None:
            return
        ours = self._per_minute / self._shares
        rate, most, now = ours / 60, max(ours, 1.0), self._clock()
        left, then = self._buckets.get(key.digest, (most, now))
        left = min(left + (now - then) * rate, most)
        if left < 1:
            wait_s = math.ceil((1 - left) / rate)
            raise RateLimited(
                f"this API key may make {self._per_minute:g} edits a minute; try again in "
                f"{wait_s} s",
                retry_after_s=wait_s,
            )
        self._buckets[key.digest] = left - 1, now


def _parse(lines: list[str], source: str) -> dict[str, str]:
    names = {}
    for number, line in enumerate(lines, 1):
        digest, _, name = line.split("#")[0].strip().partition(" ")
        if not digest:
            continue
        if not _DIGEST.fullmatch(digest.lower()):
            raise OptionInvalid(
                f"line {number} of {source} is not the sha256 of a key in hex; make one with "
                "`printf %s KEY | sha256sum`",
                param="api_keys_file",
            )
        names[digest.lower()] = name.strip(" -*") or f"key-{digest[:8].lower()}"
    return names
