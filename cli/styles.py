"""`rayedit styles`: the presets that an edit can name."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from engine.styles import Style

HEADS = ("name", "model", "seed", "template", "sets", "looks like")


def styles(
    config: Annotated[Path | None, typer.Option(help="YAML of the engine's settings.")] = None,
    model: Annotated[str | None, typer.Option(help="Only those that this model can do.")] = None,
) -> None:
    """List the styles: their model, seed and template, and what else they set."""
    from engine.config import EngineConfig, load_config

    settings = load_config(config, EngineConfig, "engine", model=model)
    found = settings.find_styles()
    chosen = found.by_name if model is None else found.of_model(settings.find_model())
    rows = [HEADS, *(_row(name, style) for name, style in chosen.items())]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        typer.echo("  ".join(cells).rstrip())


def _row(name: str, style: Style) -> tuple[str, ...]:
    sets = [f"{key}={value}" for key, value in style.given.items() if key != "seed"]
    if style.lora is not None:
        sets.append(f"lora={Path(style.lora).name}")
    return (
        name,
        style.model or "any",
        "-" if style.seed is None else str(style.seed),
        style.template,
        ", ".join(sets) or "-",
        style.description,
    )
