"""OpenAI's Batch JSONL for `/v1/images/edits`, as a manifest.

A line is OpenAI's `BatchRequestInput` (openai-openapi 2.3.0).
"""

from __future__ import annotations

import json
from typing import Any

from batch_jobs.manifest.reading import AS_IT_IS, Reading
from batch_jobs.manifest.row import Row
from engine.errors import ManifestInvalid, OptionInvalid, RequestError
from engine.sources import check_data_url
from engine.wire import EditBody, FileId

NAMES = {"custom_id": "id", "body": "body"}
ENDPOINT = {"method": "POST", "url": "/v1/images/edits"}
# What a job publishes: PNG files, whole ones.
_ONLY = {
    "output_format": (None, "png"),
    "output_compression": (None, 100),
    "stream": (None, False),
    "partial_images": (None, 0),
}


def read_line(line: dict[str, Any], reading: Reading = AS_IT_IS) -> Row:
    """Read a request; what is wrong with its body is that row's own fault.

    Raises `ManifestInvalid` where it is none.
    """
    check_line(line)
    row = Row()
    row.set_id(line["custom_id"])
    try:
        _read_body(line["body"] if isinstance(line.get("body"), dict) else {}, row, reading)
    except RequestError as error:
        row.refuse(error)
    return row


def check_line(line: dict[str, Any]) -> None:
    """Raises `ManifestInvalid` where a line is no request, whatever its body says."""
    for key, wanted in ENDPOINT.items():
        if line.get(key) != wanted:
            shown = json.dumps(line.get(key))[:80]
            raise ManifestInvalid(f"{key} must be {wanted}; got {shown}", param=key)
    if not isinstance(line.get("custom_id"), str):
        raise ManifestInvalid("custom_id must be text", param="custom_id")


def _read_body(values: dict[str, Any], row: Row, reading: Reading) -> None:
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
    row.model = None if body.model in reading.aliases else body.model
    images = body.image_urls(file_ids=reading.file_ids)
    mask = body.mask_url(file_ids=reading.file_ids)
    if reading.file_ids:
        for number, image in enumerate(images):
            _check_kept(image, f"images[{number}].image_url")
        _check_kept(mask, "mask.image_url")
    row.set_image(images)
    row.set_mask(mask)


def _check_kept(image: str | None, field: str) -> None:
    """Refuse what is neither an uploaded file nor in the line itself: a client's paths and URIs are
    not to be read."""
    if image is not None and not isinstance(image, FileId):
        check_data_url(image, field)
