"""What storage may be asked again: time-outs, 429 and 5xx, after a growing pause."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from storage.backends import REFUSED_AS_PRESENT, TRANSIENT

T = TypeVar("T")

logger = logging.getLogger(__name__)

ATTEMPTS = 6
FIRST_PAUSE_S = 0.2  # doubled each time, with jitter: about 6 s in all, on top of the client's own


def retrying(call: Callable[[], T]) -> T:
    """Return what `call` returns, asking up to `ATTEMPTS` times while its errors are transient."""
    for attempt in range(1, ATTEMPTS):
        try:
            return call()
        except Exception as error:
            if not is_transient(error):
                raise
            pause_s = FIRST_PAUSE_S * 2 ** (attempt - 1) * random.uniform(0.5, 1.5)
            logger.warning("storage: %s; again in %.1f s", error, pause_s)
            time.sleep(pause_s)
    return call()


def is_transient(error: BaseException) -> bool:
    """Tell whether the same call may succeed later."""
    return any(
        isinstance(cause, TimeoutError | ConnectionError)
        or any(base.__name__ in TRANSIENT for base in type(cause).__mro__)
        or http_status(cause) in (408, 425, 429)
        or http_status(cause) >= 500
        for cause in _chain(error)
    )


def is_refused_as_present(error: BaseException) -> bool:
    """Tell whether an object store refused to create what is there already."""
    return any(
        isinstance(cause, FileExistsError) or http_status(cause) in REFUSED_AS_PRESENT
        for cause in _chain(error)
    )


def http_status(error: BaseException) -> int:
    """Return the HTTP status that storage answered with, 0 where the error names none."""
    response: Any = getattr(error, "response", None)
    if isinstance(response, dict):  # botocore
        return int(response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    for holder in (response, error):  # requests; aiohttp and gcsfs
        for name in ("status_code", "status", "code"):
            value = getattr(holder, name, None)
            if isinstance(value, int):
                return value
    return 0


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
