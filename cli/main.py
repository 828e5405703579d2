"""`rayedit edit | batch | serve | models`."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

import engine
from batch_jobs.__main__ import batch
from cli.edit import edit
from cli.serve import serve
from engine.errors import EngineError

app = typer.Typer(
    name="rayedit",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Edit photographs by instruction: one, a manifest of them, or over HTTP.",
)
app.command()(edit)
app.command()(batch)
app.command()(serve)


@app.command()
def models() -> None:
    """List the registered models and their defaults."""
    from engine.registry import MODELS

    table = Table("name", "from", "side", "steps", "guidance", "image guidance", "scripts")
    for spec in MODELS.values():
        folder = Path(spec.source)
        table.add_row(
            spec.name,
            "embedded" if folder.is_dir() else spec.source,
            f"{spec.resolution} px",
            str(spec.num_inference_steps),
            f"{spec.guidance_scale:g}",
            f"{spec.image_guidance_scale:g}",
            ", ".join(script.lower() for script in spec.scripts),
        )
    Console().print(table)
    typer.echo("Any folder or hub id in the InstructPix2Pix layout works too: --model FOLDER.")


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
    """The entry of the command: a mistake of the user is one line, never a traceback."""
    try:
        app()
    except EngineError as error:
        Console(stderr=True, soft_wrap=True).print(
            f"[red]rayedit:[/red] {error.message}", markup=True
        )
        sys.exit(2)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)


if __name__ == "__main__":
    main()
