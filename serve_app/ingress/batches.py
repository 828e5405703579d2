"""OpenAI's batches, each its API key's alone: what is asked is stored, and a job finds it there."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from engine.errors import OptionInvalid
from engine.fields import MAX_SHOWN, validate
from engine.seeding import draw_seed
from serve_app.config import ServeConfig
from serve_app.errors import BatchUnknown, FileUnknown
from serve_app.ingress.files import Files, owner_of, storage_errors
from serve_app.ingress.kept_schemas import Batch, BatchErrors, BatchList, RequestCounts
from serve_app.ingress.keys import Key
from serve_app.ingress.models import Models
from serve_app.ingress.parsing import load_object
from serve_app.ingress.upload import ExpiresAfter
from storage.batch_store import BatchOrder, BatchState, BatchStore

ENDPOINT: Literal["/v1/images/edits"] = "/v1/images/edits"
WINDOW_S = {"24h": 86_400}  # OpenAI's only one
READERS = 16
Text64 = Annotated[str, StringConstraints(max_length=64)]
Text512 = Annotated[str, StringConstraints(max_length=512)]


class BatchBody(BaseModel):
    """The body of `POST /v1/batches`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    input_file_id: str = Field(description="a file of purpose batch: a request a line")
    endpoint: Literal["/v1/images/edits"] = Field(description="of every line")
    completion_window: Literal["24h"] = Field(description="after it the batch expires")
    metadata: Annotated[dict[Text64, Text512], Field(max_length=16)] | None = Field(
        default=None, description="at most 16 texts of yours, by name"
    )
    output_expires_after: ExpiresAfter | None = Field(
        default=None, description="when the files that it makes are removed; default: never"
    )


class Batches:
    """Takes batches, tells of them, cancels them. Their jobs run elsewhere (`serve_app.batches`)
    and are known by what they write."""

    def __init__(self, files: Files, config: ServeConfig, models: Models) -> None:
        self._files, self._config, self._models = files, config, models

    @classmethod
    def of(cls, files: Files | None, config: ServeConfig, models: Models) -> Self | None:
        """Take batches where files are kept."""
        return None if files is None else cls(files, config, models)

    def create(self, key: Key, body: bytes) -> Batch:
        """Take a batch. Raises `OptionError`, `FileUnknown` and `NotReady`."""
        asked = validate(BatchBody, load_object(body))
        self._check_input(key, asked.input_file_id)
        batches = self._of(key)
        now, after = int(self._files.clock()), asked.output_expires_after
        order = BatchOrder(
            id=batches.new_id(),
            input_file_id=asked.input_file_id,
            endpoint=asked.endpoint,
            completion_window=asked.completion_window,
            created_at=now,
            expires_at=now + WINDOW_S[asked.completion_window],
            model=self._models.default.name,
            names=dict(self._models.names),
            jobs={one.name: self._job(self._config.of_model(one.name)) for one in self._models},
            metadata=asked.metadata,
            output_lifetime_s=None if after is None else after.seconds,
        )
        with storage_errors():
            batches.create(order)
        return batch_object(order, BatchState(), None)

    def retrieve(self, key: Key, id: str) -> Batch:
        """Tell how far a batch is; raises `BatchUnknown` and `NotReady`."""
        batches = self._of(key)
        with storage_errors():
            order = batches.order(id)
            if order is not None:
                return _told(batches, order)
        raise BatchUnknown(
            f'there is no batch "{id[:MAX_SHOWN]}", or none of this API key: GET /v1/batches '
            "lists those that there are"
        )

    def page(self, key: Key, after: str | None, limit: int) -> BatchList:
        """List the batches of a key, the newest first; raises `NotReady`."""
        batches = self._of(key)
        with storage_errors(), ThreadPoolExecutor(READERS) as pool:
            orders, has_more = batches.page(after, limit)
            data = list(pool.map(lambda order: _told(batches, order), orders))
        first, last = (data[0].id, data[-1].id) if data else (None, None)
        return BatchList(data=data, first_id=first, last_id=last, has_more=has_more)

    def cancel(self, key: Key, id: str) -> Batch:
        """Have a batch end with what is done. Raises `BatchUnknown`, `NotReady`, and
        `OptionInvalid` where it is over already."""
        batch = self.retrieve(key, id)
        if batch.status in ("completed", "failed", "expired"):
            raise OptionInvalid(
                f"the batch is over: its status is {batch.status}", param="batch_id"
            )
        with storage_errors():
            self._of(key).cancel(id)
        return self.retrieve(key, id)

    def _of(self, key: Key) -> BatchStore:
        return BatchStore(self._files.storage, owner_of(key), self._files.clock)

    def _check_input(self, key: Key, id: str) -> None:
        try:
            file = self._files.find(key, id)
        except FileUnknown as error:
            raise FileUnknown(error.message, param="input_file_id") from None
        if file.purpose != "batch":
            raise OptionInvalid(
                f'input_file_id: the file is of purpose "{file.purpose}"; upload the lines with '
                'purpose "batch"',
                param="input_file_id",
            )

    @staticmethod
    def _job(config: ServeConfig) -> dict[str, Any]:
        """Say how a model's job edits, as a `JobConfig` has it: as this server does now."""
        return {
            "engine": config.engine.model_dump(mode="json", exclude_unset=True),
            "num_gpus": config.num_gpus,
            "num_cpus": config.num_cpus,
            "max_workers": config.batch_workers,
            "accept": list(config.accept),
            "metadata": config.metadata,
            "seed": draw_seed(),  # of lines that have none: another one for each batch, as online
        }


def _told(batches: BatchStore, order: BatchOrder) -> Batch:
    return batch_object(order, batches.state(order.id), batches.cancelling_at(order.id))


def batch_object(order: BatchOrder, state: BatchState, cancelling_at: int | None) -> Batch:
    """Describe a batch as OpenAI does."""
    is_ending = cancelling_at is not None and not state.is_over
    was_cancelled = is_ending or state.status == "cancelled"
    return Batch(
        id=order.id,
        endpoint=order.endpoint,
        model=state.model or order.model,
        errors=BatchErrors(data=state.errors) if state.errors else None,  # type: ignore[arg-type]
        input_file_id=order.input_file_id,
        completion_window=order.completion_window,
        status="cancelling" if is_ending else state.status,
        output_file_id=state.output_file_id if state.is_over else None,
        error_file_id=state.error_file_id if state.is_over else None,
        created_at=order.created_at,
        in_progress_at=state.in_progress_at,
        expires_at=order.expires_at,
        finalizing_at=state.finalizing_at,
        completed_at=state.completed_at,
        failed_at=state.failed_at,
        expired_at=state.expired_at,
        cancelling_at=cancelling_at if was_cancelled else None,
        cancelled_at=state.cancelled_at,
        request_counts=RequestCounts(
            total=state.total, completed=state.completed, failed=state.failed
        ),
        metadata=order.metadata,
    )
