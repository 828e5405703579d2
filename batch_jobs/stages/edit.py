"""What runs on the cluster for a block of rows: decode, then edit. Rows in = rows out."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import numpy as np
import pyarrow as pa

from batch_jobs.manifest.plan import read_embedded
from batch_jobs.manifest.rows import planned_options, sha256
from batch_jobs.stages.crash_journal import DEATHS_TO_CONVICT, BlockJournal, Gate, Journal
from batch_jobs.storage.retrying import retrying
from engine.config import EngineConfig
from engine.edit import EditFailure, EditOutcome, EditRequest
from engine.errors import ImageNotFound, WorkerCrashed
from engine.options import EditOptions, ResolvedOptions
from engine.registry import ModelSpec
from engine.seeding import row_seed
from engine.sources import Prepared, prepare
from engine.text import clean_instruction
from storage.sources import read_source

logger = logging.getLogger(__name__)

# `entry`: the ledger row in the making, as JSON; `geometry`: the way back, as JSON; `pixels`:
# (height, width, 3) uint8 at model size, null where the row has failed; `images`: the edited ones.
DECODED = pa.schema(
    [
        ("entry", pa.string()),
        ("geometry", pa.string()),
        ("height", pa.int32()),
        ("width", pa.int32()),
        ("pixels", pa.large_binary()),
    ]
)
EDITED = pa.schema([*list(DECODED)[:-1], ("images", pa.list_(pa.large_binary()))])


def decode_rows(
    block: pa.Table,
    spec: ModelSpec,
    job_seed: int,
    base: str,
    image_root: str | None,
    prepare: Callable[..., Prepared] = prepare,
) -> pa.Table:
    """Planned rows -> rows with pixels at model size, or with the reason why there are none.

    `prepare`: `engine.sources.prepare`, here or elsewhere.
    """
    plan = block.to_pylist()
    embedded = _embedded(plan)
    decoded = []
    for position, row in enumerate(plan):
        entry = _new_entry(row)
        try:
            options = planned_options(row["options"], spec)
            options = spec.resolve(options, row_seed(job_seed, row["id"]))
            entry |= options.model_dump()
            instruction = clean_instruction(row["instruction"] or "")
            if row["image"] is not None:
                data = _read(row["image"], base, image_root)
            elif row["image_sha256"] is not None:
                data = _as_planned(row, embedded, position)
            else:
                data = b""
            entry["source_sha256"] = sha256(data)
            prepared = prepare(row["id"], data, instruction, options, spec)
            decoded.append(_decoded(entry, prepared))
        except Exception as error:  # whatever is wrong with a row stays with the row
            fail(entry, EditFailure.of(row["id"], error))
            decoded.append({"entry": json.dumps(entry)})
    return pa.Table.from_pylist(decoded, schema=DECODED)


def _read(source: str, base: str, image_root: str | None) -> bytes:
    return retrying(lambda: read_source(source, base, image_root))


def _embedded(plan: list[dict[str, Any]]) -> dict[int, bytes | None] | Exception:
    """The images that the manifest holds itself, by position; or why it cannot be read again."""
    try:
        return retrying(lambda: dict(read_embedded(plan)))
    except Exception as error:  # storage clients and parsers raise dozens of kinds
        logger.warning("the manifest cannot be read again: %s", error)
        return error


def _as_planned(
    row: dict[str, Any], embedded: dict[int, bytes | None] | Exception, position: int
) -> bytes:
    if isinstance(embedded, Exception):
        raise embedded
    data = embedded.get(position)
    if data is None or sha256(data) != row["image_sha256"]:
        raise ImageNotFound(
            f"{row['file']} has changed since the job read it: the image of this row is no longer "
            "in its place; run the job again"
        )
    return data


def _new_entry(row: dict[str, Any]) -> dict[str, Any]:
    return {
        "id": row["id"],
        "status": "ok",
        "attempts": row["attempts"],
        "instruction": row["instruction"],
        "fingerprint": row["fingerprint"],
        "source": row["image"] or f"{row['file']}#{row['row_group']}.{row['row']}",
        "source_sha256": row["image_sha256"],
        "warnings": [],
    }


def _decoded(entry: dict[str, Any], prepared: Prepared) -> dict[str, Any]:
    pixels = prepared.request.pixels
    entry["warnings"] += prepared.warnings
    return {
        "entry": json.dumps(entry),
        "geometry": json.dumps(asdict(prepared.geometry)),
        "height": pixels.shape[0],
        "width": pixels.shape[1],
        "pixels": pixels.tobytes(),
    }


def fail(entry: dict[str, Any], failure: EditFailure) -> None:
    """Turn a ledger row in the making into an error row."""
    entry |= {"status": "error", "error_code": failure.code, "error_message": failure.message}


class EditWorker:
    """The model actor as Ray Data wants it: called with a block, keeps its model between calls."""

    def __init__(self, config: EngineConfig, spec: ModelSpec, journal: Journal) -> None:
        from engine.actor import EditActor

        self._actor = EditActor(config, spec)
        self._journal = journal
        self._gate = Gate()

    def __call__(self, block: pa.Table) -> pa.Table:
        rows = block.to_pylist()
        entries = [json.loads(row["entry"]) for row in rows]
        requests = [
            _request(row, entry)
            for row, entry in zip(rows, entries, strict=True)
            if row["pixels"] is not None
        ]
        outcomes = {outcome.id: outcome for outcome in self._outcomes(requests)}
        edited = [
            self._edited(row, entry, outcomes.get(entry["id"]))
            for row, entry in zip(rows, entries, strict=True)
        ]
        return pa.Table.from_pylist(edited, schema=EDITED)

    def _outcomes(self, requests: list[EditRequest]) -> list[EditOutcome]:
        """All together; or, where a worker died on them, each alone."""
        if not requests:
            return []
        journal = self._journal.block([request.id for request in requests])
        journal.check()
        if journal.suspected:
            with self._gate.alone():
                outcomes = self._investigate(journal, requests)
        else:
            with self._gate.together():
                journal.open()
                outcomes = self._actor.edit_batch(sorted(requests, key=_lane))
        if not self._actor.alive:  # from now on it would refuse whatever it is given
            raise WorkerCrashed("the model's thread has ended: see the worker's log")
        journal.close()
        return outcomes

    def _investigate(self, journal: BlockJournal, requests: list[EditRequest]) -> list[EditOutcome]:
        convicted, cleared = journal.convicted, journal.cleared
        outcomes: list[EditOutcome] = []
        for request in requests:
            if request.id in cleared:  # alone all the same: they may have died of being together
                outcomes += self._actor.edit_batch([request])
        suspects = [r for r in requests if r.id not in convicted | cleared]
        for request in sorted(suspects, key=lambda request: not journal.died_alone(request.id)):
            journal.open(request.id)
            outcomes += self._actor.edit_batch([request])
            journal.survived()
        crashed = WorkerCrashed(
            f"{DEATHS_TO_CONVICT} workers died while they edited this row alone"
        )
        return outcomes + [EditFailure.of(id, crashed) for id in convicted]

    def _edited(
        self, row: dict[str, Any], entry: dict[str, Any], outcome: EditOutcome | None
    ) -> dict[str, Any]:
        actor = self._actor
        entry |= {
            "model": actor.spec.name,
            "model_revision": actor.revision,
            "determinism": actor.config.determinism,
        }
        images = None
        if isinstance(outcome, EditFailure):
            fail(entry, outcome)
        elif outcome is not None:
            images = [image.tobytes() for image in outcome.images]
            entry["warnings"] += outcome.warnings
            entry |= {"batch_size": outcome.batch_size, "model_s": outcome.model_s}
            entry["outputs"] = [{"seed": seed} for seed in outcome.seeds]
        kept = {name: row[name] for name in ("geometry", "height", "width")}
        return {**kept, "entry": json.dumps(entry), "images": images}


def _lane(request: EditRequest) -> tuple[Any, ...]:
    """Rows of one shape run together, the longest first, so that a batch stays full to its end."""
    return request.pixels.shape, -(request.options.num_inference_steps or 0)


def _request(row: dict[str, Any], entry: dict[str, Any]) -> EditRequest:
    pixels = np.frombuffer(row["pixels"], np.uint8).reshape(row["height"], row["width"], 3)
    options = {name: entry[name] for name in EditOptions.model_fields if name in entry}
    instruction = clean_instruction(entry["instruction"])
    return EditRequest(entry["id"], pixels, instruction, ResolvedOptions.parse(options))
