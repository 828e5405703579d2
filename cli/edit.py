"""`rayedit edit`: one photograph, here and now."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_args

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from engine.edit import Determinism, Resize, Scheduler
from engine.errors import ImageNotFound, OptionInvalid

if TYPE_CHECKING:
    from engine.config import EngineConfig
    from engine.edit import EditResult
    from engine.sources import Prepared

FORMATS = {".png": "png", ".jpg": "jpeg", ".jpeg": "jpeg", ".webp": "webp"}


SchedulerName = Annotated[
    Scheduler | None,
    typer.Option(metavar="NAME", help=f"One of {', '.join(get_args(Scheduler))}."),
]


def edit(
    source: Annotated[Path, typer.Argument(help="A JPEG, PNG or WebP photograph.")],
    instruction: Annotated[str, typer.Argument(help='Such as "make it night".')],
    output: Annotated[Path, typer.Option("--output", "-o", help="A .png, .jpg or .webp file.")],
    config: Annotated[Path | None, typer.Option(help="YAML of the engine's settings.")] = None,
    model: Annotated[str | None, typer.Option(help="Name, folder, or hub_id@revision.")] = None,
    seed: Annotated[int | None, typer.Option(help="0 to 4294967295; drawn if not given.")] = None,
    num_inference_steps: Annotated[int | None, typer.Option(help="1 to 100.")] = None,
    guidance_scale: Annotated[
        float | None, typer.Option(help="How strongly to follow the instruction, 0 to 20.")
    ] = None,
    image_guidance_scale: Annotated[
        float | None, typer.Option(help="How closely to keep to the photograph, 0 to 5.")
    ] = None,
    negative_prompt: Annotated[str | None, typer.Option(help="What to keep away from.")] = None,
    scheduler: SchedulerName = None,
    size: Annotated[str | None, typer.Option(help="WIDTHxHEIGHT in px.")] = None,
    resize: Annotated[Resize, typer.Option(help="How the photograph meets that size.")] = "fit",
    restore_size: Annotated[
        bool, typer.Option("--restore-size", help="Return the photograph's own size.")
    ] = False,
    determinism: Annotated[Determinism | None, typer.Option(help="What bytes depend on.")] = None,
) -> None:
    """Edit the photograph SOURCE by INSTRUCTION."""
    options = {
        "seed": seed,
        "num_inference_steps": num_inference_steps,
        "guidance_scale": guidance_scale,
        "image_guidance_scale": image_guidance_scale,
        "negative_prompt": negative_prompt,
        "scheduler": scheduler,
        "size": size,
        "resize": resize,
        "restore_size": restore_size,
    }
    format = _format_of(output)
    settings = _settings(config, model, determinism)
    prepared = _prepare(source, instruction, options, settings)
    result = _run(prepared, settings)
    _save(output, format, prepared, result)


def _format_of(output: Path) -> str:
    format = FORMATS.get(output.suffix.lower())
    if format is None or output.is_dir() or not output.resolve().parent.is_dir():
        raise OptionInvalid(
            f"--output {output}: name a .png, .jpg or .webp in a folder that exists"
        )
    return format


def _settings(config: Path | None, model: str | None, determinism: str | None) -> EngineConfig:
    from engine.config import EngineConfig, load_config

    return load_config(config, EngineConfig, "engine", model=model, determinism=determinism)


def _prepare(
    source: Path, instruction: str, options: dict[str, Any], settings: EngineConfig
) -> Prepared:
    from engine.edit import EditOptions
    from engine.registry import find_model
    from engine.seeding import draw_seed
    from engine.sources import prepare
    from engine.text import clean_instruction

    spec = find_model(settings.model, settings.resolution)
    given = {name: value for name, value in options.items() if value is not None}
    resolved = spec.resolve(EditOptions.parse(given), draw_seed())
    text = clean_instruction(instruction)
    try:
        data = source.read_bytes()
    except OSError as error:
        raise ImageNotFound(f"{source}: {error.strerror}") from None
    return prepare("edit", data, text, resolved, spec)


def _run(prepared: Prepared, settings: EngineConfig) -> EditResult:
    """The edit itself, with a bar on a terminal; ends the command where it fails."""
    from engine.actor import EditActor
    from engine.edit import EditFailure

    console = Console(stderr=True)
    columns = (TextColumn("editing"), BarColumn(), MofNCompleteColumn())
    with Progress(
        *columns, console=console, disable=not console.is_terminal, transient=True
    ) as bar:
        task = bar.add_task("editing", total=None)

        def show(_: str, done: int, total: int) -> None:
            bar.update(task, completed=done, total=total)

        with EditActor(settings, progress=show) as actor:
            outcome = actor.edit_batch([prepared.request])[0]
    if isinstance(outcome, EditFailure):
        typer.secho(f"rayedit: {outcome.message} ({outcome.code})", err=True, fg="red")
        raise typer.Exit(2 if outcome.status < 500 else 1)
    return outcome


def _save(output: Path, format: str, prepared: Prepared, result: EditResult) -> None:
    from engine.geometry import from_canvas
    from engine.images import encode

    image = from_canvas(result.images[0], prepared.geometry)
    try:
        output.write_bytes(encode(image, format))
    except OSError as error:
        raise OptionInvalid(f"--output {output}: {error.strerror}") from None
    for warning in (*prepared.warnings, *result.warnings):
        typer.secho(f"warning: {warning}", err=True, fg="yellow")
    size = f"{image.width}x{image.height} px"
    typer.echo(f"{output} {size}, seed {result.seeds[0]}, {result.model_s:.1f} s")
