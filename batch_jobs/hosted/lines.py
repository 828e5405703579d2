"""The input of a batch: whether every line of it is a request."""

from __future__ import annotations

import io
from collections.abc import Collection
from dataclasses import dataclass, field

from batch_jobs.manifest.jsonl import parse_line
from batch_jobs.manifest.openai_batch import check_line
from batch_jobs.manifest.row import Row
from engine.errors import ManifestInvalid
from engine.fields import MAX_SHOWN
from storage.batch_store import Fault

MAX_LINES = 50_000  # OpenAI's
MAX_FAULTS = 100  # as many are told


@dataclass(slots=True)
class CheckedLines:
    """Holds the ids of the requests, in their order, and what is wrong."""

    ids: list[str] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)


def check_lines(data: bytes, models: Collection[str]) -> CheckedLines:
    """Look at every line; `models`: names that a request may say. What is wrong within a body is
    its own request's fault, and none here."""
    checked, seen = CheckedLines(), set[str]()
    for number, line in enumerate(io.BytesIO(data), start=1):
        if not line.strip():
            continue
        if len(checked.ids) == MAX_LINES:
            message = f"the input has more than {MAX_LINES:,} requests: make several batches of it"
            checked.faults = [Fault("too_many_tasks", message, number)]
            break
        id, fault = _check(line, models, seen)
        checked.ids.append(id)
        seen.add(id)
        if fault is not None and len(checked.faults) < MAX_FAULTS:
            checked.faults.append(Fault(fault.code, fault.message, number, fault.param))
    if not checked.ids:
        checked.faults = [Fault("empty_file", "the input has no lines: send a request a line")]
    return checked


def _check(line: bytes, models: Collection[str], seen: Collection[str]) -> tuple[str, Fault | None]:
    """Return the id of a request, and what is wrong with it."""
    try:
        request = parse_line(line)
    except ManifestInvalid as error:
        return "", Fault("invalid_json_line", error.message)
    row = Row()
    try:
        check_line(request)
        row.set_id(request["custom_id"])
    except ManifestInvalid as error:
        return "", Fault("invalid_request", error.message, param=error.param)
    if row.id is None:
        return "", Fault("invalid_request", "custom_id is empty", param="custom_id")
    if row.id in seen:
        shown = row.id[:MAX_SHOWN]
        message = f'custom_id "{shown}" is of an earlier line too: each names one request'
        return row.id, Fault("duplicate_custom_id", message, param="custom_id")
    return row.id, _check_model(request.get("body"), models)


def _check_model(body: object, models: Collection[str]) -> Fault | None:
    model = body.get("model") if isinstance(body, dict) else None
    if not isinstance(model, str) or model in models:  # what is no text is the request's own fault
        return None
    message = f'the model "{model[:MAX_SHOWN]}" is not served here; {" or ".join(models)} is'
    return Fault("model_not_found", message, param="body.model")
