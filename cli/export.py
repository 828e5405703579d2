"""`rayedit export`: the ledger of a job, finished or not, in the shape that others read."""

from __future__ import annotations

from typing import Annotated

import typer

from batch_jobs.export import Shape, export_ledger
from batch_jobs.ledger.entry import Status
from storage.storage import Storage


def export(
    output: Annotated[str, typer.Argument(help="The output of a job; path or URI.")],
    to: Annotated[Shape, typer.Option(help="The shape of a line.")],
    dest: Annotated[
        str | None,
        typer.Option(help="The file; path or URI. Default: OUTPUT/export-<shape>.jsonl."),
    ] = None,
    status: Annotated[
        Status | None, typer.Option(help="Only rows that are edited, or only those that failed.")
    ] = None,
) -> None:
    """Write the ledger of OUTPUT as JSONL: one line a row, failed ones included.

    jsonl: the ledger's columns. dataflow: images, conversations, output_image. openai-batch:
    responses as OpenAI's Batch API writes them, images as base64.
    """
    done = export_ledger(Storage.open(output), to, dest, status)
    rows = done.unfinished_of
    unfinished = "" if rows is None else f" of {rows:,}; the job has not finished"
    typer.echo(f"{done.dest} {done.rows:,} rows{unfinished}")
