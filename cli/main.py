"""`rayedit edit | sweep | show | batch | manifest | validate | status | export | triplets | serve |
calibrate | models | styles`."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

import engine
from batch_jobs.__main__ import batch
from cli.calibrate import calibrate
from cli.edit import edit
from cli.export import export
from cli.manifest import manifest
from cli.models import models
from cli.serve import serve
from cli.show import show
from cli.status import status
from cli.styles import styles
from cli.sweep import sweep
from cli.validate import validate
from engine.errors import ClusterUnavailable, EngineError
from triplet_jobs.__main__ import triplets

app = typer.Typer(
    name="rayedit",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Edit photographs by instruction: one, a manifest of them, or over HTTP.",
)
app.command()(edit)
app.command()(sweep)
app.command()(show)
app.command()(batch)
app.command()(manifest)
app.command()(validate)
app.command()(status)
app.command()(export)
app.command()(triplets)
app.command()(serve)
app.command()(calibrate)
app.command()(models)
app.command()(styles)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"rayedit {engine.__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Edit photographs by instruction: one, a manifest of them, or over HTTP."""


def main() -> None:
    """Run the command: a mistake of the user is one line, never a traceback."""
    try:
        app()
    except EngineError as error:
        typer.secho(f"rayedit: {error.message}", err=True, fg="red")
        sys.exit(4 if isinstance(error, ClusterUnavailable) else 2)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except OSError as error:  # a file or a storage that cannot be read
        typer.secho(f"rayedit: {error}", err=True, fg="red")
        sys.exit(1)


if __name__ == "__main__":
    main()
