"""What is answered of files and batches, for OpenAPI."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, Field

from storage.file_store import Purpose

BatchStatus = Literal[
    "validating",
    "failed",
    "in_progress",
    "finalizing",
    "completed",
    "expired",
    "cancelling",
    "cancelled",
]


class FileObject(BaseModel):
    """OpenAI's `File`."""

    id: str
    object: Literal["file"] = "file"
    bytes: int = Field(description="its size")
    created_at: int = Field(description="unix time in seconds")
    expires_at: int | None = Field(description="when it is removed; null: when you remove it")
    filename: str
    purpose: Purpose = Field(description="batch_output: what a batch made")
    status: Literal["processed"] = "processed"


class FileList(BaseModel):
    object: Literal["list"] = "list"
    data: list[FileObject] = Field(description="the newest first, unless `order` says asc")
    first_id: str | None = None
    last_id: str | None = Field(default=None, description="sent as `after`, it gives the next page")
    has_more: bool


class FileDeleted(BaseModel):
    id: str
    object: Literal["file"] = "file"
    deleted: Literal[True] = True


class BatchError(BaseModel):
    """What is wrong with the input of a batch."""

    code: str
    message: str
    line: int | None = Field(default=None, description="of the input, from 1")
    param: str | None = None


class BatchErrors(BaseModel):
    object: Literal["list"] = "list"
    data: list[BatchError]


class RequestCounts(BaseModel):
    """The lines of a batch so far."""

    total: int
    completed: int = Field(description="whose answers are in the output file at the end")
    failed: int = Field(description="whose errors are in the error file at the end")


class Batch(BaseModel):
    """OpenAI's `Batch`; times are unix time in seconds."""

    id: str
    object: Literal["batch"] = "batch"
    endpoint: str
    model: str = Field(description="of all lines")
    errors: BatchErrors | None = Field(description="of a batch that failed: of its lines")
    input_file_id: str
    completion_window: str
    status: BatchStatus = Field(description="failed: no line was edited, `errors` says why")
    output_file_id: str | None = Field(description="the answers, once it is over: a line each")
    error_file_id: str | None = Field(description="the requests that failed or never ran, likewise")
    created_at: int
    in_progress_at: int | None
    expires_at: int = Field(description="when it ends with what is done by then")
    finalizing_at: int | None
    completed_at: int | None
    failed_at: int | None
    expired_at: int | None
    cancelling_at: int | None
    cancelled_at: int | None
    request_counts: RequestCounts
    metadata: dict[str, str] | None


class BatchList(BaseModel):
    object: Literal["list"] = "list"
    data: list[Batch] = Field(description="the newest first")
    first_id: str | None = None
    last_id: str | None = Field(default=None, description="sent as `after`, it gives the next page")
    has_more: bool
