"""The models behind this process: each by its names, with the way to its replicas."""

from __future__ import annotations

import asyncio
import difflib
import math
import time
from collections.abc import Iterator, Mapping, Sequence

from engine.built_in_styles import BUILT_IN
from engine.errors import ModelUnknown, NotReady
from engine.fields import MAX_SHOWN
from engine.spec import ModelSpec
from engine.styles import Styles
from serve_app.backend import Backend
from serve_app.schemas import Readiness

READY_TIMEOUT_S = 2.0
BUSY_S = 10.0


class ServedModel:
    """Holds a model as it is served, the way to its replicas, and when one last answered."""

    def __init__(
        self, name: str, spec: ModelSpec, backend: Backend, styles: Styles = BUILT_IN
    ) -> None:
        self.name, self.spec, self.styles, self.backend = name, spec, styles, backend
        self._last_ready: Readiness | None = None
        self._last_answer_s = -math.inf

    def answered(self) -> None:
        """Note that a replica has answered an edit."""
        self._last_answer_s = time.monotonic()

    async def ready(self) -> Readiness:
        """Return a replica's readiness. Raises `NotReady` unless one answers within
        `READY_TIMEOUT_S`, or is too busy to but has answered an edit within `BUSY_S`."""
        try:
            async with asyncio.timeout(READY_TIMEOUT_S):
                self._last_ready = await self.backend.ready()
        except TimeoutError:
            if self._last_ready is None or time.monotonic() - self._last_answer_s > BUSY_S:
                raise NotReady("no replica with a loaded model has answered") from None
        return self._last_ready


class Models:
    """Finds a model by what a client calls it; `names`: each such word -> the model's own name."""

    def __init__(self, models: Sequence[ServedModel], names: Mapping[str, str]) -> None:
        self._models = {model.name: model for model in models}
        self.names = names
        self.default = models[0]  # of an edit that names none

    def __iter__(self) -> Iterator[ServedModel]:
        return iter(self._models.values())

    def find(self, name: str | None) -> ServedModel:
        """Find the model that a client names; raises `ModelUnknown`, with the nearest first."""
        if name is None:
            return self.default
        if name in self.names:
            return self._models[self.names[name]]
        shown = name[:MAX_SHOWN]
        nearest = sorted(self._models, key=lambda one: -_likeness(one, shown))
        quoted = [f'"{one}"' for one in nearest]
        wish = f"leave model out or send {quoted[0]}"
        if len(quoted) > 1:
            wish = (
                f"send {', '.join(quoted[:-1])} or {quoted[-1]}, or leave model out for "
                f'"{self.default.name}"'
            )
        raise ModelUnknown(f'the model "{shown}" is not served here; {wish}', param="model")


def _likeness(name: str, sent: str) -> float:
    return difflib.SequenceMatcher(None, name.lower(), sent.lower()).ratio()
