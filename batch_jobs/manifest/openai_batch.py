"""OpenAI's Batch JSONL for `/v1/images/edits`, as a manifest.

A line is OpenAI's `BatchRequestInput` (openai-openapi 2.3.0).
"""

from __future__ import annotations

import json
from typing import Any

from batch_jobs.manifest.row import Row
from engine.errors import ManifestInvalid, OptionInvalid, RequestError
from engine.wire import EditBody

NAMES = {"custom_id": "id", "body": "body"}
ENDPOINT = {"method": "POST", "url": "/v1/images/edits"}
# What a job publishes: PNG files, whole ones.
_ONLY = {
    "output_format": (None, "png"),
    "output_compression": (None, 100),
    "stream": (None, False),
    "partial_images": (None, 0),
}


def read_line(line: dict[str, Any]) -> Row:
    """Read a request; what is wrong with its body is that row's own fault.

    Raises `ManifestInvalid` where it is none.
    """
    for key, wanted in ENDPOINT.items():
        if line.get(key) != wanted:
            raise ManifestInvalid(f"{key} must be {wanted}; got {json.dumps(line.get(key))[:80]}")
    if not isinstance(line.get("custom_id"), str):
        raise ManifestInvalid("custom_id must be text")
    row = Row()
    row.set_id(line["custom_id"])
    try:
        _read_body(line["body"] if isinstance(line.get("body"), dict) else {}, row)
    except RequestError as error:
        row.refuse(error)
    return row


def _read_body(values: dict[str, Any], row: Row) -> None:
    if isinstance(values.get("prompt"), str):
        row.set_instruction(values["prompt"])
    body = EditBody.parse(values)
    for name, accepted in _ONLY.items():
        if getattr(body, name) not in accepted:
            raise OptionInvalid(
                f"{name}: a job publishes PNG files; leave it out or send {accepted[-1]!r}",
                param=name,
            )
    given = body.options()
    # beside a style, what it sets and the line sets back is said too
    row.options |= given.model_dump(exclude_unset=True, exclude_defaults=given.style is None)
    row.model = body.model
    row.set_image(body.image_urls())
    row.set_mask(body.mask_url())
