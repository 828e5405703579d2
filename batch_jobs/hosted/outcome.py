"""What a batch has made, as the files that its owner finds: one of answers, one of errors."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from batch_jobs.export.file import publish_lines
from batch_jobs.export.lines import ExportLines
from batch_jobs.hosted.watch import Reason
from batch_jobs.ledger.ledger import Ledger
from batch_jobs.ledger.order import by_id
from storage.batch_store import BatchOrder
from storage.file_store import FileStore, StoredFile
from storage.storage import Storage

WHY: dict[Reason, str] = {
    "cancelled": "the batch was cancelled before this request was executed",
    "expired": "the batch expired before this request was executed",
}


@dataclass(frozen=True, slots=True)
class Outcome:
    """Writes what the job of a batch has made so far into the files of its owner."""

    order: BatchOrder
    model: str | None  # as the server calls it
    files: FileStore
    job: Storage  # the output of the job
    rows: pa.Table  # of its ledger

    @classmethod
    def of(cls, order: BatchOrder, model: str | None, files: FileStore, job: Storage) -> Outcome:
        """Read what there is."""
        return cls(order, model, files, job, by_id(Ledger(job).read()))

    @property
    def counts(self) -> tuple[int, int]:
        """Count the requests that were answered, and those that failed."""
        answered = pc.sum(pc.equal(self.rows["status"], "ok")).as_py() or 0
        return answered, len(self.rows) - answered

    def write_answers(self) -> str | None:
        """Write the answers; returns the id of the file, None where there are none."""
        return self._write("output", self._lines("ok"))

    def write_errors(self, asked: Sequence[str], reason: Reason | None) -> str | None:
        """Write the requests that failed, and where the batch has ended for a `reason` those of
        `asked` that never ran; returns as `write_answers`."""
        return self._write("error", self._errors(asked, reason))

    def _errors(self, asked: Sequence[str], reason: Reason | None) -> Iterator[str]:
        yield from self._lines("error")
        if reason is not None:
            ran = set(self.rows["id"].to_pylist())
            yield from (_never_ran(self.order, id, reason) for id in asked if id not in ran)

    def _lines(self, status: str) -> Iterator[str]:
        rows = self.rows.filter(pc.equal(self.rows["status"], status))
        return ExportLines(self.job, "", "openai-batch", model=self.model).of(rows)

    def _write(self, kind: str, lines: Iterator[str]) -> str | None:
        first = next(lines, None)
        if first is None:
            return None
        file = self._file(kind, 0)
        place = f"{self.files.data_uri}/{file.name}"

        def all_lines() -> Iterator[str]:
            yield first
            yield from lines

        size_bytes = publish_lines(place, all_lines())
        self.files.register(self._file(kind, size_bytes))
        return file.id

    def _file(self, kind: str, size_bytes: int) -> StoredFile:
        """Describe a file, the same however often it is written."""
        token = self.order.id.partition("_")[2]
        own = hashlib.sha256(f"{self.order.id} {kind}".encode()).hexdigest()
        name = f"{self.order.id}_{kind}.jsonl"
        id = f"file-{token[:12]}{own[:20]}"
        lifetime_s = self.order.output_lifetime_s
        return self.files.made(id, size_bytes, name, "batch_output", lifetime_s)


def _never_ran(order: BatchOrder, id: str, reason: Reason) -> str:
    """Write a request that never ran as OpenAI's `BatchRequestOutput`."""
    digest = hashlib.sha256(f"{order.id}/{id}".encode()).hexdigest()[:32]
    error = {"code": f"batch_{reason}", "message": WHY[reason]}
    line = {"id": f"batch_req_{digest}", "custom_id": id, "response": None, "error": error}
    return json.dumps(line, ensure_ascii=False)
