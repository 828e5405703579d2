"""`rayedit models`: what is known by name, with its defaults, its licence and its size."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from engine.model_sizes import QUANTISED_BYTES

if TYPE_CHECKING:
    from engine.model_sizes import ModelSize
    from engine.spec import ModelSpec

HEADS = (
    *("name", "side", "steps", "guidance", "image", "scripts", "licence"),
    *("parameters", "bf16", "card", "cpu/swap", *QUANTISED_BYTES, "from"),
)
NOTES = (
    "card: the smallest GPU whose memory holds the weights, about, with text_encoder: device; then "
    "with cpu or swap; then with these and quantization. `rayedit calibrate` measures how many "
    "samples fit beside them.",
    "Any folder or hub id of these families works too: --model FOLDER.",
)


def models() -> None:
    """List the registered models: defaults, licence, size, and the GPU that holds them."""
    from engine.catalogue import MODELS
    from engine.model_sizes import SIZES

    rows = [HEADS, *(_row(spec, SIZES[spec.name]) for spec in MODELS.values())]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        typer.echo("  ".join(cells).rstrip())
    for note in NOTES:
        typer.echo(note)


def _row(spec: ModelSpec, size: ModelSize) -> tuple[str, ...]:
    scripts = [script.lower() for script in spec.scripts]
    others = f" + {len(scripts) - 2}" if len(scripts) > 2 else ""
    return (
        spec.name,
        f"{spec.resolution} px",
        str(spec.defaults["num_inference_steps"]),
        str(spec.defaults.get("guidance_scale", "-")),
        str(spec.defaults.get("image_guidance_scale", "-")),
        ", ".join(scripts[:2]) + others,
        spec.licence,
        f"{size.parameters:.2f} B",
        f"{size.gigabytes:.1f} GB" if size.gigabytes >= 1 else f"{1000 * size.gigabytes:.0f} MB",
        _card(size.card_gb()),
        _card(size.small_card_gb()),
        *(_card(size.quantised_card_gb(kind)) for kind in QUANTISED_BYTES),
        "embedded" if Path(spec.source).is_dir() else spec.source,
    )


def _card(gigabytes: int | None) -> str:
    return "-" if gigabytes is None else f"{gigabytes} GB"
