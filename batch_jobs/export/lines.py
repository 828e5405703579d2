"""A ledger row as a line of JSON: as it is, as DataFlow's, or as OpenAI's Batch API's.

What these lines are as a manifest, `manifest.dataflow` and `manifest.openai_batch` say.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, Literal

import pyarrow as pa

from batch_jobs.ledger.entry import Entry, Output, from_ledger
from batch_jobs.ledger.layout import ENDINGS, published_path
from batch_jobs.manifest.carried import carried_values
from engine.edit import EditFailure
from engine.errors import OutputUnusable
from engine.wire import OutputFormat, error_body
from storage.location import located
from storage.storage import Storage

LineShape = Literal["jsonl", "dataflow", "openai-batch"]

ROWS_AT_ONCE = 64
# OpenAI's clients read it; no tokens are counted
NO_TOKENS = {
    "input_tokens": 0,
    "input_tokens_details": {"image_tokens": 0, "text_tokens": 0},
    "output_tokens": 0,
    "total_tokens": 0,
}
READERS = 8  # images read at a time: storage answers slowly, not little


@dataclass(frozen=True, slots=True)
class DataFlowKeys:
    """Names the keys of DataFlow's lines, as the `run` of its operator takes them."""

    image: str = "images"
    conversation: str = "conversations"
    output: str = "output_image"


DATAFLOW_KEYS = DataFlowKeys()


class ExportLines:
    """Writes ledger rows in one of the shapes."""

    def __init__(
        self,
        storage: Storage,
        base: str,
        to: LineShape,
        keys: DataFlowKeys = DATAFLOW_KEYS,
        model: str | None = None,
    ) -> None:
        """`base`: the folder that relative paths start from; `keys`: of DataFlow's lines; `model`:
        what OpenAI's lines call the model, where that is not the job's name of it."""
        self._storage = storage
        self._base = base
        self._to = to
        self._keys = keys
        self._model = model

    def of(self, table: pa.Table) -> Iterator[str]:
        """Yield the lines of a table with all columns of the ledger."""
        with ThreadPoolExecutor(READERS) as pool:
            for start in range(0, len(table), ROWS_AT_ONCE):
                rows = table.slice(start, ROWS_AT_ONCE)
                if self._to == "jsonl":
                    yield from map(_ledger_line, rows.to_pylist())
                else:
                    line_of = self._dataflow if self._to == "dataflow" else self._openai
                    yield from pool.map(line_of, from_ledger(rows))

    def _dataflow(self, entry: Entry) -> str:
        edited = [self._storage.uri(path) for path in _images(entry)]
        return dataflow_line(entry, *located_pictures(entry, self._base), edited, self._keys)

    def _openai(self, entry: Entry) -> str:
        images = [self._read(path, entry) for path in _images(entry)]
        masks = [path and self._read(published_path(path), entry) for path in _masks(entry)]
        entry.model = self._model or entry.model
        return openai_line(entry, images, masks)

    def _read(self, path: str, entry: Entry) -> str:
        """Read a file of a row as base64."""
        try:
            return base64.b64encode(self._storage.read(path)).decode()
        except OSError as error:
            raise OutputUnusable(
                f"{self._storage.uri(path)}, an image of row {entry.id}, cannot be read: {error}"
            ) from None


def _ledger_line(row: dict[str, Any]) -> str:
    return json.dumps(row, ensure_ascii=False, default=datetime.isoformat)


def told_beside(entry: Entry) -> dict[str, Any]:
    """List what the manifest told of a row beside its edit: what was carried, and its chain."""
    chain = {"chain_id": entry.chain_id, "turn": entry.turn}
    return carried_values(entry.carried) | (chain if entry.turn is not None else {})


def located_pictures(entry: Entry, base: str) -> tuple[list[str], str]:
    """Find where the images of a row are, and its mask: empty where the manifest holds them, or
    there is no mask. `base`: the folder that relative paths start from."""
    named = [entry.mask, entry.source, *(entry.references or ())]
    mask, *sources = (located(path, base) if path else "" for path in named)
    return sources, mask


def dataflow_line(
    entry: Entry,
    sources: Sequence[str],
    mask: str,
    edited: Sequence[str],
    keys: DataFlowKeys = DATAFLOW_KEYS,
) -> str:
    """Write a row as DataFlow's JSONL (see `manifest.dataflow`).

    `sources`, `mask`: see `located_pictures`; `edited`: where the edited images are, none where the
    row failed. What the row carried is in the line too.
    """
    line: dict[str, Any] = {
        **told_beside(entry),
        keys.image: list(sources) if len(sources) > 1 else sources[0],
        keys.conversation: [{"role": "user", "content": entry.instruction or ""}],
        keys.output: list(edited),
        "id": entry.id,
    }
    if mask:
        line["mask"] = mask
    if entry.fault is not None:
        line["error"] = {"code": entry.fault.code, "message": entry.fault.message}
    return json.dumps(line, ensure_ascii=False)


def openai_line(entry: Entry, images: Sequence[str], masks: Sequence[str | None]) -> str:
    """Write a row as OpenAI's `BatchRequestOutput` (openai-openapi 2.3.0); `images`, and for each
    its mask where one was asked for: base64.

    A request that failed has the error body in `response`; `error` is for requests that never ran.
    """
    digest = hashlib.sha256(f"{entry.id}/{entry.fingerprint}".encode()).hexdigest()[:32]
    failure = EditFailure.of(entry.id, entry.fault.error()) if entry.fault else None
    response = {
        "status_code": failure.status if failure else 200,
        "request_id": f"req_{digest}",
        "body": error_body(failure) if failure else _images_response(entry, images, masks),
    }
    line = {
        "id": f"batch_req_{digest}",
        "custom_id": entry.id,
        "response": response,
        "error": None,
    }
    return json.dumps(line, ensure_ascii=False)


def _images_response(
    entry: Entry, images: Sequence[str], masks: Sequence[str | None]
) -> dict[str, Any]:
    """Write OpenAI's `ImagesResponse` with the fields that the HTTP API adds to it."""
    first = next(iter(entry.outputs), None)  # a factory keeps no picture of a filtered row
    return {
        "created": int(entry.finished_at.timestamp()) if entry.finished_at else 0,
        "data": [
            {
                "b64_json": image,
                "url": None,
                "seed": output.seed,
                "edit_report": _report(output),
                "mask_b64_json": mask,
            }
            for image, mask, output in zip(images, masks, entry.outputs, strict=True)
        ],
        "background": _background_of(entry),
        "output_format": first and _format_of(first),
        "quality": _quality_of(entry),
        "size": first and f"{first.width_px}x{first.height_px}",
        "model": entry.model,
        "warnings": entry.warnings or [],
        "understood_as": entry.understood_as,
        "instruction_used": entry.instruction_used,
        "usage": NO_TOKENS,
    }


def _background_of(entry: Entry) -> str:
    """OpenAI's word; of an edit that asked for its source's transparency, "transparent"."""
    return (entry.options and entry.options.background) or "opaque"


def _quality_of(entry: Entry) -> str | None:
    """OpenAI's word, None for "auto", which its `ImagesResponse` does not know."""
    quality = entry.options.quality if entry.options else None
    return None if quality == "auto" else quality


def _report(output: Output) -> dict[str, Any] | None:
    return None if output.edit_report is None else asdict(output.edit_report)


def _format_of(output: Output) -> OutputFormat:
    ending = output.uri.rpartition(".")[2]
    return next(format for format, known in ENDINGS.items() if known == ending)


def _images(entry: Entry) -> list[str]:
    """Name the images of a row in the output."""
    return [published_path(output.uri) for output in entry.outputs or ()]


def _masks(entry: Entry) -> list[str | None]:
    """Name where each image of a row was edited, where that was asked for."""
    return [output.mask_uri for output in entry.outputs or ()]
