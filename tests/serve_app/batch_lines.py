"""Lines of a batch, and what comes of them, as OpenAI's client sees it."""

from __future__ import annotations

import json
import time
from typing import Any

import openai
from openai.types import Batch

from tests.batch_jobs.shapes import batch_line, data_url

OVER = ("completed", "failed", "expired", "cancelled")


def upload(sdk: openai.OpenAI, lines: list[Any]) -> str:
    """Upload lines, each an object or the text itself; returns the id of the file."""
    text = "".join(f"{line if isinstance(line, str) else json.dumps(line)}\n" for line in lines)
    return sdk.files.create(file=("lines.jsonl", text.encode()), purpose="batch").id


def make_batch(sdk: openai.OpenAI, lines: list[Any], **more: Any) -> Batch:
    id = upload(sdk, lines)
    return sdk.batches.create(
        input_file_id=id, endpoint="/v1/images/edits", completion_window="24h", **more
    )


def wait_until_over(sdk: openai.OpenAI, id: str, timeout_s: float = 240) -> Batch:
    """Poll as OpenAI's guide does."""
    deadline = time.monotonic() + timeout_s
    while (batch := sdk.batches.retrieve(id)).status not in OVER:
        assert time.monotonic() < deadline, batch
        time.sleep(0.5)
    return batch


def outputs(sdk: openai.OpenAI, file_id: str | None) -> dict[str, dict[str, Any]]:
    """The lines of an output or error file by their `custom_id`, each there once and in OpenAI's
    shape."""
    if file_id is None:
        return {}
    lines = [json.loads(line) for line in sdk.files.content(file_id).text.splitlines()]
    found = {line["custom_id"]: line for line in lines}
    assert len(found) == len(lines) and len({line["id"] for line in lines}) == len(lines)
    for line in lines:
        assert set(line) == {"id", "custom_id", "response", "error"}
        assert (line["response"] is None) != (line["error"] is None)
        if line["response"] is not None:
            assert set(line["response"]) == {"status_code", "request_id", "body"}
    return found


def edit_lines(photograph: bytes, count: int, **body: Any) -> list[dict[str, Any]]:
    """Requests of a few steps; `custom_id` is edit-0 and on."""
    url = data_url(photograph)
    fast = {"num_inference_steps": 2, "seed": 7, **body}
    return [batch_line(f"edit-{number}", url, **fast) for number in range(count)]
