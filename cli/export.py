"""`rayedit export`: what a job made, finished or not, as others take it."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from batch_jobs.export.dataflow import LaidOut, lay_out
from batch_jobs.export.delivery import Delivered, deliver
from batch_jobs.export.file import Exported, Shape, export_ledger
from batch_jobs.export.lines import DATAFLOW_KEYS, DataFlowKeys
from batch_jobs.ledger.entry import Status
from engine.counted import counted
from engine.errors import OptionInvalid
from storage.storage import Storage

UNFINISHED = "the job has not finished"


Output = Annotated[str, typer.Argument(help="The output of a job; path or URI.")]
Dest = Annotated[
    str | None,
    typer.Option(
        help="The file, default OUTPUT/export-SHAPE; with --keep-names the folder, likewise with "
        "--layout, default OUTPUT/dataflow."
    ),
]
Rows = Annotated[
    Status | None, typer.Option(help="Only rows that are edited, or only those that failed.")
]
KeepNames = Annotated[
    bool, typer.Option("--keep-names", help="Deliver the pictures, under their sources' names.")
]
Layout = Annotated[
    Literal["dataflow"] | None,
    typer.Option(help="With --to dataflow: the pictures too, as it names them."),
]
ImageKey = Annotated[str, typer.Option(help="Of a line of DataFlow: its `input_image_key`.")]
TextKey = Annotated[str, typer.Option(help="Likewise, its `input_conversation_key`.")]
OutputKey = Annotated[str, typer.Option(help="Likewise, its `output_image_key`.")]


def export(
    output: Output,
    to: Annotated[Shape | None, typer.Option(help="The shape of a line.")] = None,
    dest: Dest = None,
    status: Rows = None,
    keep_names: KeepNames = False,
    layout: Layout = None,
    image_key: ImageKey = DATAFLOW_KEYS.image,
    conversation_key: TextKey = DATAFLOW_KEYS.conversation,
    output_key: OutputKey = DATAFLOW_KEYS.output,
) -> None:
    """Write the ledger of OUTPUT, one line a row, failed ones included; or its pictures under
    readable names.

    --to jsonl: the ledger's columns. dataflow: images, conversations, output_image. openai-batch:
    responses as OpenAI's Batch API writes them, images as base64. csv, xlsx: a table for people.
    Edited rows alone, with their pictures: triplets, instruct-pix2pix (Parquet in UltraEdit's
    columns, in InstructPix2Pix's), imagefolder, webdataset (a folder, a tar).

    --to dataflow --layout dataflow: a line for each row, and the pictures, as its next step reads.
    --keep-names --dest FOLDER: every picture, in the folders of its source, with the instruction
    where a source has several. No file is written over. Where they can be, they are hard links: the
    same file twice, so save what you change under another name.
    """
    keys = DataFlowKeys(image_key, conversation_key, output_key)
    if to != "dataflow" and (layout or keys != DATAFLOW_KEYS):
        raise OptionInvalid("--layout and the keys of a line are for --to dataflow")
    if keep_names and (to or status or dest is None):
        raise OptionInvalid("--keep-names takes --dest FOLDER, and neither --to nor --status")
    if layout and status:
        raise OptionInvalid("--layout takes all rows: DataFlow knows one by its number")
    storage = Storage.open(output)
    if keep_names and dest:
        typer.echo(_told(deliver(storage, dest)))
    elif to is None:
        raise OptionInvalid("say --to SHAPE for a file, or --keep-names --dest FOLDER for pictures")
    elif layout:
        typer.echo(_laid_out(lay_out(storage, dest or storage.uri(layout), keys)))
    else:
        typer.echo(_exported(export_ledger(storage, to, dest, status, keys)))


def _exported(done: Exported) -> str:
    rows = done.unfinished_of
    unfinished = "" if rows is None else f" of {rows:,}; {UNFINISHED}"
    return f"{done.dest} {counted(done.rows, 'row')}{unfinished}"


def _laid_out(done: LaidOut) -> str:
    unfinished = f"; {UNFINISHED}" if done.unfinished else ""
    pictures = counted(done.pictures, "picture")
    return f"{done.dest} {counted(done.rows, 'row')}, {pictures}{unfinished}"


def _told(done: Delivered) -> str:
    """Say what was delivered, then what a person would stumble over, a line each."""
    there = done.pictures - done.new
    before = f", {there:,} there before" if there else ""
    lines = [f"{done.dest} {counted(done.pictures, 'picture')}{before}"]
    if done.beside:
        lines.append(f"{done.beside:,} got a number: another file has the name, and is kept")
    if done.changed:
        names = counted(len(done.changed), "name")
        was, is_now = next(iter(done.changed.items()))
        lines.append(f"{names} changed for other systems, such as {was!r} to {is_now!r}")
    if done.failed:
        rows = counted(done.failed, "row")
        lines.append(f"{rows} failed: see `rayedit status OUTPUT --failed`")
    if not done.is_finished:
        lines.append(UNFINISHED)
    return "\n  ".join(lines)
