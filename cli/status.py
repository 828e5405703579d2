"""`rayedit status`: how far a job is."""

from __future__ import annotations

from typing import Annotated

import typer

from batch_jobs.status import describe
from storage.storage import Storage


def status(
    output: Annotated[str, typer.Argument(help="The output of a job; path or URI.")],
) -> None:
    """Tell how far the job of OUTPUT is."""
    typer.echo(describe(Storage.open(output)))
