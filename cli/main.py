"""`rayedit edit | batch | validate | status | export | serve | calibrate | models`."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

import engine
from batch_jobs.__main__ import batch
from cli.calibrate import calibrate
from cli.edit import edit
from cli.export import export
from cli.serve import serve
from cli.status import status
from cli.validate import validate
from engine.errors import ClusterUnavailable, EngineError

app = typer.Typer(
    name="rayedit",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Edit photographs by instruction: one, a manifest of them, or over HTTP.",
)
app.command()(edit)
app.command()(batch)
app.command()(validate)
app.command()(status)
app.command()(export)
app.command()(serve)
app.command()(calibrate)


@app.command()
def models() -> None:
    """List the registered models and their defaults."""
    from engine.catalogue import MODELS

    heads = ("name", "side", "steps", "guidance", "image", "scripts", "licence", "from")
    rows: list[tuple[str, ...]] = [heads]
    for spec in MODELS.values():
        scripts = [script.lower() for script in spec.scripts]
        others = f" + {len(scripts) - 2}" if len(scripts) > 2 else ""
        facts = (
            spec.name,
            f"{spec.resolution} px",
            spec.defaults["num_inference_steps"],
            spec.defaults.get("guidance_scale", "-"),
            spec.defaults.get("image_guidance_scale", "-"),
            ", ".join(scripts[:2]) + others,
            spec.licence,
            "embedded" if Path(spec.source).is_dir() else spec.source,
        )
        rows.append(tuple(map(str, facts)))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        typer.echo("  ".join(cells).rstrip())
    typer.echo("Any folder or hub id of these families works too: --model FOLDER.")


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
