"""`rayedit manifest`: the pictures of a folder as a manifest, to be filled in or edited."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from batch_jobs.config import JobConfig
from batch_jobs.manifest.reading import Reading
from batch_jobs.manifest.writing import write_manifest
from engine.counted import counted
from engine.flags import with_flags


@with_flags((JobConfig, ("instruction", "glob")))
def manifest(
    folder: Annotated[str, typer.Argument(help="A folder of pictures, to any depth; path or URI.")],
    output: Annotated[
        str, typer.Option("--output", "-o", help="A new .parquet, .csv, .xlsx or .jsonl.")
    ],
    **flags: Any,
) -> None:
    """Write a manifest of the pictures below FOLDER: a row for each, with each --instruction.

    Without --instruction that column is empty, to be filled in.
    """
    rows, notes = write_manifest(folder, output, Reading.of(flags))
    typer.echo("\n  ".join([f"{output} {counted(rows, 'row')}", *notes]))
