"""`rayedit edit`: one photograph, here and now."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from engine.config import EngineConfig, load_config
from engine.edit import WARNINGS
from engine.errors import ImageNotFound, OptionInvalid
from engine.flags import with_flags
from engine.formats import check_accept
from engine.options import EditOptions
from engine.recipe import ENGINE_FLAGS
from engine.wire import OutputFormat, check_background

if TYPE_CHECKING:
    from engine.edit import EditResult, Guided, Measured
    from engine.sources import Prepared, Source
    from engine.spec import ModelSpec

FORMATS: dict[str, OutputFormat] = {".png": "png", ".jpg": "jpeg", ".jpeg": "jpeg", ".webp": "webp"}

AcceptFlag = Annotated[
    list[str] | None,
    typer.Option(help="Also take photographs as avif, bmp, gif, heic or tiff; repeatable."),
]
MetadataFlag = Annotated[
    bool | None,
    typer.Option("--metadata/--no-metadata", help="Write into a PNG the line that makes it again."),
]


@with_flags((EngineConfig, (*ENGINE_FLAGS, "translate")), (EditOptions, EditOptions.model_fields))
def edit(
    source: Annotated[Path, typer.Argument(help="A JPEG, PNG or WebP photograph.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="A .png, .jpg or .webp file.")],
    instruction: Annotated[
        str,
        typer.Argument(help='Such as "make it night"; none with a --style that is one.'),
    ] = "",
    config: Annotated[Path | None, typer.Option(help="YAML of the engine's settings.")] = None,
    model: Annotated[str | None, typer.Option(help="Name, folder, or hub_id@revision.")] = None,
    mask: Annotated[
        Path | None, typer.Option(help="A PNG as large as SOURCE; what is opaque in it stays.")
    ] = None,
    image: Annotated[
        list[Path] | None,
        typer.Option(help="A further photograph, for a model that edits from several; repeatable."),
    ] = None,
    accept: AcceptFlag = None,
    metadata: MetadataFlag = True,
    **options: Any,
) -> None:
    """Edit the photograph SOURCE by INSTRUCTION."""

    format, taken = _format_of(output), check_accept(tuple(accept or ()))
    engine = {name: options.pop(name, None) for name in (*ENGINE_FLAGS, "translate")}
    settings = settings_of(config, model=model, **engine).for_style(options.get("style"))
    spec = settings.find_model()
    files = _files(source, mask, image or [], spec)
    given, styles = EditOptions.parse(options), settings.find_styles()
    prepared = prepare_edit(files, *styles.apply(instruction, given, spec), spec, accept=taken)
    check_background(prepared.request.options, format)
    [result] = run_edits([prepared], settings, spec)
    _save(output, format, prepared, result, metadata)


def _format_of(output: Path) -> OutputFormat:
    format = FORMATS.get(output.suffix.lower())
    if format is None or output.is_dir() or not output.resolve().parent.is_dir():
        raise OptionInvalid(
            f"--output {output}: name a .png, .jpg or .webp in a folder that exists"
        )
    return format


def settings_of(config: Path | None, **flags: Any) -> EngineConfig:
    """Read the engine's settings; flags are above the file. Raises `OptionError`."""
    return load_config(config, EngineConfig, "engine", **flags)


def _files(source: Path, mask: Path | None, images: list[Path], spec: ModelSpec) -> Source:
    from engine.sources import Source

    spec.check_sources(1 + len(images), param="--image")
    drawn = None if mask is None else read_file(mask)
    return Source(read_file(source), drawn, tuple(map(read_file, images)))


def prepare_edit(
    files: Source,
    instruction: str,
    options: EditOptions,
    spec: ModelSpec,
    seed: int | None = None,
    id: str = "edit",
    accept: tuple[str, ...] = (),
) -> Prepared:
    """Make the request of an edit; `seed`: of one that names none, drawn where it is not given;
    `accept`: formats beside JPEG, PNG and WebP.

    Raises `ImageError`, `InstructionError` and `OptionError`.
    """
    from engine.seeding import draw_seed
    from engine.sources import prepare
    from engine.text import clean_instruction

    resolved = spec.resolve(options, draw_seed() if seed is None else seed)
    return prepare(id, files, clean_instruction(instruction), resolved, spec, accept)


def read_file(path: Path) -> bytes:
    """Read a photograph; raises `ImageNotFound`."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise ImageNotFound(f"{path}: {error.strerror}") from None


def run_edits(
    edits: Sequence[Prepared], settings: EngineConfig, spec: ModelSpec
) -> list[EditResult]:
    """Edit in one batch, with a bar on a terminal; ends the command where one fails."""
    from engine.actor import EditActor
    from engine.edit import EditFailure

    console = Console(stderr=True)
    columns = (TextColumn("editing"), BarColumn(), MofNCompleteColumn())
    with Progress(
        *columns, console=console, disable=not console.is_terminal, transient=True
    ) as bar:
        task = bar.add_task("editing", total=None)
        steps = {edit.request.id: (0, 0) for edit in edits}  # done, of all

        def show(id: str, done: int, total: int) -> None:
            steps[id] = (done, total)
            done, total = map(sum, zip(*steps.values(), strict=True))
            bar.update(task, completed=done, total=total)

        with EditActor(settings, spec, progress=show) as actor:
            outcomes = actor.edit_batch([edit.request for edit in edits])
    results: list[EditResult] = []
    for outcome in outcomes:
        if isinstance(outcome, EditFailure):
            typer.secho(f"rayedit: {outcome.message} ({outcome.code})", err=True, fg="red")
            raise typer.Exit(2 if outcome.status < 500 else 1)
        results.append(outcome)
    return results


def _save(
    output: Path,
    format: OutputFormat,
    prepared: Prepared,
    result: EditResult,
    metadata: bool | None,
) -> None:
    from engine.images import encode
    from engine.masks import encode_mask
    from engine.results import finished_images

    warn((*prepared.warnings, *result.warnings), result.understood_as)
    if result.instruction_used is not None:
        typer.echo(f"translated: {result.instruction_used}")
    finished = finished_images(result, prepared.finishing)
    for made, seed, path in zip(finished, result.seeds, _paths(output, result), strict=True):
        warn(made.warnings)
        command = made.command if metadata else ""
        write_file(path, encode(made.picture, format, command=command), "--output")
        if made.edited is not None:
            mask = path.with_name(f"{path.stem}-mask.png")
            write_file(mask, encode_mask(made.edited), "--output")
        size = f"{made.size[0]}x{made.size[1]} px"
        typer.echo(f"{path} {size}, seed {seed}, {result.model_s:.1f} s")
        for told in (made.report.guided, made.report.measured) if made.report else ():
            if told is not None:
                typer.echo(f"  {_told(told)}")


def _told(report: Guided | Measured) -> str:
    values = ((field.name, getattr(report, field.name)) for field in fields(report))
    return ", ".join(f"{name} {value:.3g}" for name, value in values if value is not None)


def write_file(path: Path, data: bytes, flag: str) -> None:
    """Write a picture; raises `OptionInvalid` naming the flag that asked for it."""
    try:
        path.write_bytes(data)
    except OSError as error:
        raise OptionInvalid(f"{flag} {path}: {error.strerror}") from None


def warn(warnings: Iterable[str], understood_as: str | None = None) -> None:
    """Print what was softened; `understood_as`: see `EditResult`."""
    for warning in warnings:
        typer.secho(f"warning: {warning}: {WARNINGS[warning]}", err=True, fg="yellow")
    if understood_as is not None:
        typer.secho(f"understood_as: {understood_as}", err=True, fg="yellow")


def _paths(output: Path, result: EditResult) -> list[Path]:
    """Name the file of each image: `night.png`; of several `night-0.png`, `night-1.png`."""
    if len(result.images) == 1:
        return [output]
    return [output.with_stem(f"{output.stem}-{k}") for k in range(len(result.images))]
