"""`rayedit show`: the command that makes a picture again."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from cli.edit import read_file
from engine.errors import OptionInvalid
from engine.png import text_of
from engine.recipe import OUTPUT, SOURCE, read_command


def show(
    picture: Annotated[Path, typer.Argument(help="A PNG that rayedit wrote.")],
    source: Annotated[
        str, typer.Option(help="The photograph that was edited, in the place of SOURCE.")
    ] = SOURCE,
    output: Annotated[
        str, typer.Option("--output", "-o", help="Where to, in the place of OUTPUT.png.")
    ] = OUTPUT,
) -> None:
    """Print the command that makes PICTURE again, as a shell reads it.

    A picture names no file: what stands in capitals is to be filled in.
    """
    text = text_of(read_file(picture))
    if text is None:
        raise OptionInvalid(
            f"{picture} does not say how it was made: it is no PNG, rayedit did not make it, or "
            "--no-metadata left it out"
        )
    words = read_command(text)
    if words is None:
        raise OptionInvalid(f'{picture} says how another program made it: "{_begin(text)}"')
    words[2], words[words.index("-o") + 1] = source, output
    typer.echo(shlex.join(words))


def _begin(text: str) -> str:
    """One line of what is written there, without what a terminal would obey."""
    line = " ".join("".join(c if c.isprintable() else " " for c in text[:400]).split())
    return line if len(line) <= 80 else f"{line[:77]}..."
