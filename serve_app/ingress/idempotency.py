"""`Idempotency-Key`: the same edit sent again under the same key has the same answer."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import uuid

from fastapi import Request, Response

from engine.errors import OptionInvalid, TransientError
from serve_app.errors import IdempotencyKeyReused
from serve_app.ingress.kept_answers import AnswerStore, Kept
from serve_app.ingress.keys import Key
from serve_app.ingress.parsing import ParsedEdit
from serve_app.schemas import ImagesResponse

logger = logging.getLogger("ray.serve")

HEADER = "Idempotency-Key"
REPLAYED_HEADER = "idempotent-replayed"  # Stripe's name of it
MAX_CHARACTERS = 255  # Stripe's
DAY_S = 24 * 3600.0
GRACE_S = 10.0  # behind the deadline, until a holder that has not answered is taken for dead

_releases: set[asyncio.Task[None]] = set()  # the event loop itself keeps no task alive


class Turn:
    """The turn of an edit whose key nobody else works on; without a key nothing is kept.

    `answer` is the response that was given before, where there was one.
    """

    def __init__(
        self, store: AnswerStore | None = None, name: str = "", kept: Kept | None = None
    ) -> None:
        self._store, self._name, self._holder = store, name, uuid.uuid4().hex
        self.answer = None if kept is None else _response(kept, replayed=True)

    @property
    def is_keyed(self) -> bool:
        return self._store is not None

    @classmethod
    async def take(
        cls, store: AnswerStore, request: Request, key: Key, parsed: ParsedEdit, left_s: float
    ) -> Turn:
        """Take the turn of a request that has `left_s` seconds; waits while another has it. Raises
        `OptionInvalid`, `IdempotencyKeyReused` and `TransientError`."""
        sent = request.headers.get(HEADER, "").strip()
        if not sent:
            return cls()
        if len(sent) > MAX_CHARACTERS:
            raise OptionInvalid(
                f"{HEADER} has {len(sent)} characters; at most {MAX_CHARACTERS} are taken",
                param=HEADER,
            )
        digest = await asyncio.to_thread(digest_of, parsed)
        turn = cls(store, f"{key.digest} {sent}")
        try:
            claimed = await store.claim(turn._name, digest, turn._holder, left_s + GRACE_S)
        except BaseException:
            turn.give_up()  # it may be ours without our knowing
            raise
        if claimed.digest != digest:
            raise IdempotencyKeyReused(
                f"this {HEADER} was sent with another edit before: send a new key with each edit, "
                "and the same one only to repeat it",
                param=HEADER,
            )
        return turn if claimed.answer is None else cls(kept=claimed.answer)

    async def keep(
        self, response: ImagesResponse, for_s: float = DAY_S
    ) -> ImagesResponse | Response:
        """Keep an answer; returns it as whoever asks again will have it."""
        if not self.is_keyed:
            return response
        kept = Kept("application/json", response.model_dump_json().encode())
        await self._keep(kept, min(for_s, DAY_S))
        return _response(kept)

    async def keep_events(self, events: bytes) -> None:
        """Keep the events of a stream that has ended well."""
        await self._keep(Kept("text/event-stream", events), DAY_S)

    async def _keep(self, kept: Kept, for_s: float) -> None:
        if self._store is None:
            return
        try:
            await self._store.keep(self._name, self._holder, kept, for_s)
        except TransientError as error:  # of the store: the edit itself is made
            logger.warning("an answer is not kept for its %s: %s", HEADER, error.message)

    def give_up(self) -> None:
        """Let another have the turn, where it was not used; does not wait."""
        if self._store is None:
            return
        release = asyncio.ensure_future(self._store.release(self._name, self._holder))
        _releases.add(release)
        release.add_done_callback(_released)


def _released(release: asyncio.Task[None]) -> None:
    _releases.discard(release)
    if not release.cancelled() and release.exception() is not None:
        logger.warning("a turn ends by its lease: %s", release.exception())


def digest_of(parsed: ParsedEdit) -> str:
    """Digest all that makes an edit; the boundary of a form, which is new each time, is not of
    it."""
    fields = parsed.body.model_dump(exclude={"images", "mask"}, exclude_none=True)
    digest = hashlib.sha256(repr(sorted(fields.items())).encode("utf-8", "surrogatepass"))
    for sent in [*parsed.images, parsed.mask or b""]:
        data = sent.encode("utf-8", "surrogatepass") if isinstance(sent, str) else sent
        digest.update(len(data).to_bytes(8))
        digest.update(data)
    return digest.hexdigest()


def _response(kept: Kept, replayed: bool = False) -> Response:
    headers = {"cache-control": "no-store"}
    if replayed:
        headers[REPLAYED_HEADER] = "true"
    return Response(kept.body, media_type=kept.media_type, headers=headers)
