"""`rayedit status`: how far a job is."""

from __future__ import annotations

from typing import Annotated

import typer

from batch_jobs.status import describe, describe_failed
from storage.storage import Storage


def status(
    output: Annotated[str, typer.Argument(help="The output of a job; path or URI.")],
    failed: Annotated[
        bool, typer.Option("--failed", help="Write the rows that failed so far, as CSV.")
    ] = False,
) -> None:
    """Tell how far the job of OUTPUT is.

    What --failed writes is what `rayedit batch --retry FILE.csv` reads.
    """
    storage = Storage.open(output)
    if failed:
        typer.echo(describe_failed(storage), nl=False)
    else:
        typer.echo(describe(storage))
