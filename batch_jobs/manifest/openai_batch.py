"""OpenAI's Batch JSONL for `/v1/images/edits`: requests in, responses out.

Lines are OpenAI's `BatchRequestInput` and `BatchRequestOutput` (openai-openapi 2.3.0). A request
that failed has the error body in `response`; `error` is for requests that never ran.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import Any

from batch_jobs.manifest.rows import MODEL, Row, error_of
from engine.edit import EditFailure
from engine.errors import ManifestInvalid, OptionInvalid, RequestError
from engine.wire import EditBody, error_body

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
    """One request. Raises `ManifestInvalid` where it is none; what is wrong with its body is that
    row's own fault."""
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
    row.options |= body.options().model_dump(exclude_defaults=True)
    if body.model is not None:
        row.options[MODEL] = body.model
    row.set_image(body.image_url())


def export_line(entry: dict[str, Any], images: Sequence[str]) -> str:
    """A ledger row as a response; `images`: its edited images, base64."""
    digest = hashlib.sha256(f"{entry['id']}/{entry['fingerprint']}".encode()).hexdigest()[:32]
    failure = None
    if entry["status"] == "error":
        error = error_of(entry["error_code"], entry["error_message"] or "")
        failure = EditFailure.of(entry["id"], error)
    response = {
        "status_code": failure.status if failure else 200,
        "request_id": f"req_{digest}",
        "body": error_body(failure) if failure else _images_response(entry, images),
    }
    line = {
        "id": f"batch_req_{digest}",
        "custom_id": entry["id"],
        "response": response,
        "error": None,
    }
    return json.dumps(line, ensure_ascii=False)


def _images_response(entry: dict[str, Any], images: Sequence[str]) -> dict[str, Any]:
    """OpenAI's `ImagesResponse` with the fields that the HTTP API adds to it."""
    outputs = entry["outputs"]
    return {
        "created": int(entry["finished_at"].timestamp()),
        "data": [
            {"b64_json": image, "seed": output["seed"]}
            for image, output in zip(images, outputs, strict=True)
        ],
        "background": "opaque",
        "output_format": "png",
        "size": f"{outputs[0]['width_px']}x{outputs[0]['height_px']}",
        "model": entry["model"],
        "warnings": entry["warnings"] or [],
    }
