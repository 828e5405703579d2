"""A request of an OpenAI-compatible server that an operator named, such as vLLM's or Ollama's."""

from __future__ import annotations

import json
import os
from typing import Any
from urllib.request import HTTPRedirectHandler, Request, build_opener


class _NoRedirect(HTTPRedirectHandler):
    """Stays with the server that the operator named, who alone gets the key."""

    def redirect_request(self, *_: Any) -> None:
        return None


_OPENER = build_opener(_NoRedirect)


def chat_address(url: str) -> str:
    """Return where a server completes chats; `url`: up to the version, as http://host:8000/v1."""
    return f"{url.rstrip('/')}/chat/completions"


def complete_chat(
    address: str,
    body: dict[str, Any],
    *,
    key_variable: str,
    timeout_s: float,
    most_bytes: int | None = None,
) -> Any:
    """Send the body of a completion; returns the answer as parsed JSON, of at most `most_bytes`.

    `key_variable`: of the environment, sent as a bearer token where it is set. Raises `HTTPError`
    for every status but 2xx, `OSError` and `HTTPException` where no answer comes, `ValueError` for
    one that is no JSON.
    """
    headers = {"content-type": "application/json"}
    if key := os.environ.get(key_variable):
        headers["authorization"] = f"Bearer {key}"
    request = Request(address, json.dumps(body).encode(), headers)
    with _OPENER.open(request, timeout=timeout_s) as answer:
        return json.loads(answer.read(most_bytes))


def content_of(answer: Any) -> str:
    """Read the text of a completion; raises `LookupError` and `TypeError` where it is none."""
    return str(answer["choices"][0]["message"]["content"] or "")
