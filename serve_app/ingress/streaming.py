"""An edit as server-sent events: OpenAI's names, comments that keep the connection, errors."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

from fastapi.responses import Response
from pydantic import BaseModel
from starlette.types import Receive, Scope, Send

from serve_app.error_response import error_body
from serve_app.errors import engine_error
from serve_app.schemas import CompletedEvent, ErrorBody, PartialImageEvent

Events = AsyncGenerator[BaseModel, None]

# Proxies close what is silent for a minute; the first comments show that the server is at work.
FIRST_COMMENT_S = 1.0
COMMENT_S = 15.0
COMMENT = b": the edit is being made\n\n"


class EventStream(Response):
    """Sends `events` as they come; what they raise becomes an `error` event, which ends the stream.

    `limit` bounds the whole stream in time. `end` is called once, whatever happens, with what was
    raised, or with `None` when the client has everything. `keep` gets all events once they have
    been sent.
    """

    media_type = "text/event-stream"

    def __init__(
        self,
        events: Events,
        limit: Callable[[], AbstractAsyncContextManager[None]],
        end: Callable[[BaseException | None], None],
        keep: Callable[[bytes], Awaitable[None]] | None = None,
    ) -> None:
        super().__init__(headers={"cache-control": "no-store", "x-accel-buffering": "no"})
        del self.headers["content-length"]
        self._events, self._limit, self._end, self._keep = events, limit, end, keep

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        error: BaseException | None = None

        async def write(chunk: bytes, more: bool = True) -> None:
            await send({"type": "http.response.body", "body": chunk, "more_body": more})

        try:
            await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
            await write(COMMENT)
            try:
                async with self._limit():
                    events = await self._pump(write)
                    if self._keep is not None:
                        await self._keep(events)
            except Exception as caught:
                error = caught
                await write(_event("error", json.dumps(error_body(engine_error(caught)))))
            await write(b"", more=False)
        except BaseException as caught:  # the client has gone
            error = caught
            raise
        finally:
            self._end(error)

    async def _pump(self, write: Callable[[bytes], Any]) -> bytes:
        """Write every event, and a comment where there was none for long; returns the events, where
        they are to be kept."""
        pause, sent = FIRST_COMMENT_S, bytearray()
        coming = asyncio.ensure_future(anext(self._events, None))
        try:
            while True:
                await asyncio.wait({coming}, timeout=pause)
                if not coming.done():
                    await write(COMMENT)
                    pause = min(2 * pause, COMMENT_S)
                    continue
                event: Any = coming.result()
                if event is None:
                    return bytes(sent)
                chunk = _event(event.type, event.model_dump_json())
                await write(chunk)
                if self._keep is not None:
                    sent += chunk
                coming = asyncio.ensure_future(anext(self._events, None))
        finally:
            if not coming.done():
                coming.cancel()
                await asyncio.wait({coming})
            await self._events.aclose()


def _event(name: str, data: str) -> bytes:
    return f"event: {name}\ndata: {data}\n\n".encode()


def event_stream() -> dict[str, Any]:
    """Return FastAPI's entry for the 200 that `stream=true` asks for."""
    events = [
        _schema_of("image_edit.partial_image", PartialImageEvent),
        _schema_of("image_edit.completed", CompletedEvent),
        _schema_of("error", ErrorBody),
    ]
    content = {EventStream.media_type: {"itemSchema": {"type": "object", "oneOf": events}}}
    return {"description": "the images; with `stream`, events as they come", "content": content}


def _schema_of(name: str, model: type[BaseModel]) -> dict[str, Any]:
    """Describe a server-sent event whose data is a `model`."""
    data = {"contentMediaType": "application/json", "contentSchema": _inlined(model)}
    fields = {"event": {"const": name}, "data": {"type": "string", **data}}
    return {"properties": fields, "required": ["event", "data"]}


def _inlined(model: type[BaseModel]) -> dict[str, Any]:
    """Write out the schema of `model` without references: FastAPI collects only those of JSON
    answers."""
    schema = model.model_json_schema(mode="serialization")
    parts = schema.pop("$defs", {})

    def inline(part: Any) -> Any:
        if isinstance(part, list):
            return [inline(one) for one in part]
        if not isinstance(part, dict):
            return part
        if "$ref" in part:
            return inline(parts[part["$ref"].rpartition("/")[2]])
        return {name: inline(value) for name, value in part.items()}

    return {name: inline(value) for name, value in schema.items()}
