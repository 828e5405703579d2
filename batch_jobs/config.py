"""What a job can be told, from YAML and from the command line."""

from __future__ import annotations

import math
from typing import Annotated, Any, Self

from pydantic import (
    AliasChoices,
    BaseModel,
    ConfigDict,
    Field,
    ValidationInfo,
    field_validator,
    model_validator,
)

from engine.config import EngineConfig
from engine.error_codes import error_classes
from engine.fields import nearest
from engine.formats import Accept
from engine.options import MAX_SEED
from engine.wire import OutputFormat, check_background

BLOCKS_IN_A_COMMIT = 8  # blocks under way at a kill count among the rows of one commit
COMMITS = 512  # about: each part of a ledger is read alone, and Ray takes 2 ms to plan a block


class JobConfig(BaseModel):
    """How one job runs; what is edited stands in the manifest."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    engine: Annotated[EngineConfig, Field(description="the model and how it runs")] = EngineConfig()
    style: Annotated[
        str | None,
        Field(description="of rows that name none; `engine.options` outrank it; see styles.md"),
    ] = None
    seed: Annotated[
        int, Field(ge=0, le=MAX_SEED, description="rows without a seed get one from this and id")
    ] = 0
    same_seed: Annotated[
        bool, Field(description="rows without a seed have `seed` itself, all of them the same")
    ] = False
    rows_per_block: Annotated[
        int | None,
        Field(
            ge=1,
            le=4096,
            description="rows that one task edits; default: 1 to 4 model batches, from what a row "
            "has cost, and at most an eighth of rows_per_commit",
        ),
    ] = None
    rows_per_commit: Annotated[
        int | None,
        Field(
            ge=1,
            le=100_000,
            validation_alias=AliasChoices("rows_per_commit", "save_interval"),
            description="rows that a kill costs at most, for each worker; default: eight model "
            "batches, or a 512th of a long manifest; `save_interval` is another name",
        ),
    ] = None
    check_sources: Annotated[
        bool, Field(description="edit a row again when its image or mask has another size or etag")
    ] = False
    max_error_rate: Annotated[
        float, Field(ge=0, le=1, description="stop early above this share of failed rows")
    ] = 0.1
    min_rows_for_error_rate: Annotated[
        int, Field(ge=1, description="rows before the share of failed rows counts")
    ] = 100
    retry: Annotated[
        str | None,
        Field(
            description="edit failed rows again: an error code, all, or a CSV such as failed.csv, "
            "whose ids are edited and nothing else"
        ),
    ] = None
    prune: Annotated[
        bool,
        Field(
            description="remove the pictures of rows that were edited again or left the manifest, "
            "once the job has finished"
        ),
    ] = False
    min_workers: Annotated[
        int, Field(ge=1, description="model actors to start with, where max_workers is given")
    ] = 1
    max_workers: Annotated[
        int | None,
        Field(
            ge=1,
            description="model actors at most; default: as many as the GPUs, or this machine's "
            "cores, hold, all of them from the start",
        ),
    ] = None
    num_gpus: Annotated[float, Field(ge=0, description="GPUs of one model actor")] = 0.0
    num_cpus: Annotated[float, Field(ge=0, description="logical CPUs of one model actor")] = 1.0
    output_format: Annotated[
        OutputFormat,
        Field(description="of the files; jpeg and webp are lossy: nothing is kept to the byte"),
    ] = "png"
    output_compression: Annotated[
        int | None, Field(ge=0, le=100, description="quality of jpeg and webp; default: 95")
    ] = None
    metadata: Annotated[
        bool,
        Field(
            description="write into each PNG the command that makes it again, instruction and all"
        ),
    ] = True
    accept: Accept = ()
    image_root: Annotated[
        str | None,
        Field(description="a fence: local images and masks outside of this folder are refused"),
    ] = None
    image_base: Annotated[
        str | None,
        Field(description="the folder that relative paths start from; default: the manifest's"),
    ] = None
    instruction: Annotated[
        tuple[str, ...],
        Field(description="for a folder of pictures as the manifest: each edits every picture"),
    ] = ()
    glob: Annotated[
        str | None, Field(description="which pictures of that folder, such as **/*.jpg")
    ] = None
    image_column: Annotated[
        str | None, Field(description="the column of images, whatever it is called")
    ] = None
    instruction_column: Annotated[
        str | None, Field(description="the column of instructions, whatever it is called")
    ] = None
    id_column: Annotated[
        str | None, Field(description="the column of ids, whatever it is called: no two are alike")
    ] = None
    chain_id_column: Annotated[
        str | None, Field(description="the column of chains, whatever it is called")
    ] = None
    turn_column: Annotated[
        str | None, Field(description="the column of turns in a chain, whatever it is called")
    ] = None
    carry: Annotated[
        bool, Field(description="keep columns that mean nothing to an edit in the ledger")
    ] = True

    file_ids: Annotated[
        bool,
        Field(
            description="for a server's batches: lines of OpenAI's alone, whose images are data "
            "URLs, or files of `image_base` by file_id"
        ),
    ] = False
    aliases: Annotated[
        tuple[str, ...], Field(description="further names that such lines may have for the model")
    ] = ()

    @property
    def said(self) -> frozenset[str]:
        """Options that it says itself, for all rows that do not, and so outrank its style."""
        given = self.engine.options.model_dump(exclude_unset=True, exclude_none=True)
        return frozenset(given) | ({"seed"} if self.same_seed else set())

    def for_style(self) -> Self:
        """Take the model of the style, where this configuration names none: see `EngineConfig`."""
        return self.model_copy(update={"engine": self.engine.for_style(self.style)})

    def commit_rows(self, rows: int) -> int:
        """`rows_per_commit` of a run of so many rows."""
        least = BLOCKS_IN_A_COMMIT * self.engine.max_batch_size
        return self.rows_per_commit or max(math.ceil(rows / COMMITS), least)

    @property
    def encoding(self) -> dict[str, Any]:
        """How pictures are written, as a part of their fingerprint: nothing for PNG."""
        if self.output_format == "png":
            return {}
        return {name: getattr(self, name) for name in ("output_format", "output_compression")}

    @property
    def retry_file(self) -> str | None:
        """The CSV that names the rows to edit again, where `retry` is one."""
        return self.retry if _is_csv(self.retry) else None

    @field_validator("retry")
    @classmethod
    def _retry_is_a_code_or_a_file(cls, value: str | None) -> str | None:
        if _is_csv(value):
            return value
        known = ["all", *(error.code for error in error_classes())]
        if value is not None and value not in known:
            raise ValueError(f"no such error code, and no .csv. {nearest(value, known)}")
        return value

    @field_validator("instruction", mode="before")
    @classmethod
    def _one_is_a_list_of_one(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str) else value

    @model_validator(mode="after")
    def _jpeg_is_opaque(self) -> Self:
        check_background(self.engine.options, self.output_format)
        return self

    @field_validator("output_compression")
    @classmethod
    def _png_has_no_quality(cls, value: int | None, info: ValidationInfo) -> int | None:
        if info.data.get("output_format") == "png" and value not in (None, 100):
            raise ValueError("PNG is lossless: leave it out, or give output_format jpeg or webp")
        return value


def _is_csv(retry: str | None) -> bool:
    return retry is not None and retry.lower().endswith(".csv")
