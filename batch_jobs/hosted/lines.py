"""The input of a batch: whether every line of it is a request."""

from __future__ import annotations

import io
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

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
    model: str | None = None  # the one that they name, None where they name none
    faults: list[Fault] = field(default_factory=list)


def check_lines(data: bytes, names: Mapping[str, str]) -> CheckedLines:
    """Look at every line; `names`: what a request may say -> the model that is meant. What is wrong
    within a body is its own request's fault, and none here."""
    checked, seen = CheckedLines(), set[str]()
    for number, line in enumerate(io.BytesIO(data), start=1):
        if not line.strip():
            continue
        if len(checked.ids) == MAX_LINES:
            message = f"the input has more than {MAX_LINES:,} requests: make several batches of it"
            checked.faults = [Fault("too_many_tasks", message, number)]
            break
        request, fault = _read(line, seen)
        checked.ids.append(request.id)
        seen.add(request.id)
        fault = fault or _check_model(request.model, names, checked)
        if fault is not None and len(checked.faults) < MAX_FAULTS:
            checked.faults.append(Fault(fault.code, fault.message, number, fault.param))
    if not checked.ids:
        checked.faults = [Fault("empty_file", "the input has no lines: send a request a line")]
    return checked


class _Request(NamedTuple):
    id: str = ""
    model: str | None = None


def _read(line: bytes, seen: Collection[str]) -> tuple[_Request, Fault | None]:
    """Read what names a request, and what is wrong with it."""
    try:
        request = parse_line(line)
    except ManifestInvalid as error:
        return _Request(), Fault("invalid_json_line", error.message)
    row = Row()
    try:
        check_line(request)
        row.set_id(request["custom_id"])
    except ManifestInvalid as error:
        return _Request(), Fault("invalid_request", error.message, param=error.param)
    if row.id is None:
        return _Request(), Fault("invalid_request", "custom_id is empty", param="custom_id")
    body = request.get("body")
    model = body.get("model") if isinstance(body, dict) else None
    read = _Request(row.id, model if isinstance(model, str) else None)
    if row.id in seen:
        shown = row.id[:MAX_SHOWN]
        message = f'custom_id "{shown}" is of an earlier line too: each names one request'
        return read, Fault("duplicate_custom_id", message, param="custom_id")
    return read, None


def _check_model(said: str | None, names: Mapping[str, str], checked: CheckedLines) -> Fault | None:
    """Note the model of a request, which must be the one of those before."""
    if said is None:
        return None
    shown, model = said[:MAX_SHOWN], names.get(said)
    if model is None:
        message = f'the model "{shown}" is not served here; {" or ".join(names)} is'
        return Fault("model_not_found", message, param="body.model")
    checked.model = checked.model or model
    if model != checked.model:
        message = (
            f'the model "{shown}" is not "{checked.model}", as of earlier lines: a batch has one'
        )
        return Fault("mismatched_model", message, param="body.model")
    return None
