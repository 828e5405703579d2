"""`rayedit sweep`: one photograph at every combination of some options, as a labelled grid."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.edit import (
    AcceptFlag,
    MetadataFlag,
    prepare_edit,
    read_file,
    run_edits,
    settings_of,
    warn,
    write_file,
)
from engine.errors import OptionInvalid
from engine.flags import with_lists
from engine.formats import check_accept
from engine.options import Determinism, EditOptions

if TYPE_CHECKING:
    from PIL import Image

    from engine.edit import EditResult
    from engine.sources import Prepared

MOST_EDITS = 64  # of a grid; a choice: 8 by 8 pictures are what one looks at
TILE_PX = 256  # the longer side of a picture in the grid
_WHOLE = ("negative_prompt",)  # a comma is a part of it

Values = Mapping[str, Any]  # options by name


@dataclass(frozen=True, slots=True)
class Grid:
    """The options of a sweep: what all of its edits have, and what makes its rows and columns."""

    fixed: Values
    rows: tuple[Values, ...]
    columns: tuple[Values, ...]

    @classmethod
    def of(cls, options: Values) -> Grid:
        """Tell options of one value from those of several; raises `OptionInvalid`."""
        values = {name: _values(name, value) for name, value in options.items()}
        axes = [[{name: one} for one in several] for name, several in values.items() if several[1:]]
        if not 1 <= len(axes) <= 2:
            raise OptionInvalid(
                f"{len(axes)} options have several values: give one or two of them some, as "
                "--guidance-scale 1,3,7"
            )
        *rows, columns = axes
        fixed = {name: one[0] for name, one in values.items() if not one[1:]}
        grid = cls(fixed, tuple(rows[0]) if rows else ({},), tuple(columns))
        if len(grid.rows) * len(grid.columns) > MOST_EDITS:
            raise OptionInvalid(
                f"{len(grid.rows)} x {len(grid.columns)} edits; a grid has at most {MOST_EDITS}"
            )
        return grid

    @property
    def cells(self) -> Iterator[Values]:
        """The options of each edit, row by row."""
        for row, column in product(self.rows, self.columns):
            yield {**self.fixed, **row, **column}


@with_lists
def sweep(
    source: Annotated[Path, typer.Argument(help="A JPEG, PNG or WebP photograph.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The grid: a .png file.")],
    instruction: Annotated[str, typer.Argument(help='Such as "make it night".')] = "",
    config: Annotated[Path | None, typer.Option(help="YAML of the engine's settings.")] = None,
    model: Annotated[str | None, typer.Option(help="Name, folder, or hub_id@revision.")] = None,
    determinism: Annotated[Determinism | None, typer.Option(help="What bytes depend on.")] = None,
    cells: Annotated[
        Path | None, typer.Option(help="A folder for each picture of the grid as it is.")
    ] = None,
    accept: AcceptFlag = None,
    metadata: MetadataFlag = True,
    **options: Any,
) -> None:
    """Edit SOURCE with every combination of the values of one or two options, in one batch.

    For example `--guidance-scale 1,3,7 --image-guidance-scale 1,1.5,2`: three rows, three columns.
    """
    _check_output(output, cells)
    taken = check_accept(tuple(accept or ()))
    grid = Grid.of(options)
    settings = settings_of(config, model=model, determinism=determinism)
    from engine.seeding import draw_seed
    from engine.sources import Source

    files, seed = Source(read_file(source)), draw_seed()  # one noise for all that name no seed
    given = [EditOptions.parse(values, strict=False) for values in grid.cells]
    for one in given:
        if one.num_images != 1:
            raise OptionInvalid("a picture of a grid is one image: leave --num-images out")
    settings = settings.for_style(given[0].style)
    spec, styles = settings.find_model(), settings.find_styles()
    asked = [styles.apply(instruction, one, spec) for one in given]
    edits = [
        prepare_edit(files, *one, spec, seed=seed, id=str(number), accept=taken)
        for number, one in enumerate(asked)
    ]
    results = run_edits(edits, settings, spec)
    _write_grid(output, cells, files.image, instruction, grid, edits, results, metadata)


def _values(name: str, given: Any) -> list[Any]:
    if not isinstance(given, str) or name in _WHOLE:
        return [given]
    values = [value.strip() for value in given.split(",")]
    if not all(values):
        raise OptionInvalid(f"--{name.replace('_', '-')} {given}: a value is missing", param=name)
    return list(dict.fromkeys(values))


def _check_output(output: Path, cells: Path | None) -> None:
    if output.suffix.lower() != ".png" or not output.resolve().parent.is_dir():
        raise OptionInvalid(f"--output {output}: name a .png in a folder that exists")
    if cells is not None:
        try:
            cells.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OptionInvalid(f"--cells {cells}: {error.strerror}") from None


def _write_grid(
    output: Path,
    cells: Path | None,
    source: bytes,
    instruction: str,
    grid: Grid,
    edits: list[Prepared],
    results: list[EditResult],
    metadata: bool | None,
) -> None:
    from batch_jobs.report.contact_sheet import SheetRow, draw_contact_sheet, thumbnail
    from engine.formats import OPTIONAL_FORMATS
    from engine.images import decode, encode
    from engine.results import finished_images

    small: list[Image.Image] = []
    warnings: dict[str, None] = {}  # of any of them, each said once
    names = [_named(row, column) for row, column in product(grid.rows, grid.columns)]
    for name, edit, result in zip(names, edits, results, strict=True):
        made = next(iter(finished_images(result, edit.finishing)))
        warnings |= dict.fromkeys((*edit.warnings, *result.warnings, *made.warnings))
        if cells is not None:
            file = name.replace(" ", "-").replace("/", "-")
            data = encode(made.picture, "png", command=made.command if metadata else "")
            write_file(cells / f"{file}.png", data, "--cells")
        small.append(thumbnail(made.image, TILE_PX))
    warn(warnings, results[0].understood_as)
    whole = thumbnail(decode(source, OPTIONAL_FORMATS).image, TILE_PX)
    captioned = list(zip(names, small, strict=True))
    width = len(grid.columns)
    rows = [
        SheetRow(whole, captioned[start : start + width], caption=instruction or "source")
        for start in range(0, len(captioned), width)
    ]
    write_file(output, draw_contact_sheet(rows, TILE_PX), "--output")
    is_swept = any("seed" in axis[0] for axis in (grid.rows, grid.columns))
    seed = "" if is_swept else f", seed {results[0].seeds[0]}"
    typer.echo(f"{output}: {len(grid.rows)} x {width} edits{seed}")


def _named(*values: Values) -> str:
    """ "guidance_scale 3 seed 1"."""
    return " ".join(f"{name} {value}" for one in values for name, value in one.items())
