"""`rayedit validate`: everything that can be known of a manifest before its job is run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from batch_jobs.__main__ import MANIFEST, MANIFEST_FLAGS
from batch_jobs.config import JobConfig
from batch_jobs.manifest.plan import open_manifest
from batch_jobs.manifest.reading import Reading
from batch_jobs.stopping import Exit
from batch_jobs.validation.check import ManifestCheck
from engine.config import load_config
from engine.counted import counted
from engine.flags import with_flags


@with_flags((JobConfig, MANIFEST_FLAGS))
def validate(
    manifest: Annotated[str, typer.Argument(help=MANIFEST)],
    config: Annotated[Path | None, typer.Option(help="YAML of a job; see configs/batch/.")] = None,
    model: Annotated[str | None, typer.Option(help="Name, folder, or hub_id@revision.")] = None,
    images: Annotated[int, typer.Option(min=0, help="How many images to open.")] = 20,
    estimate: Annotated[
        bool, typer.Option("--estimate", help="Edit 5 rows and estimate the job's time.")
    ] = False,
    **flags: Any,
) -> None:
    """Check MANIFEST before a job is run on it: every row, and a sample of its images.

    Exit codes: 0 nothing is wrong; 2 something is: the file, the column and the first ten rows of
    each kind of fault are named. Of a row, the first wrong option is. Of the images that were
    opened it says what would be warned of, such as source_blurry: they are edited all the same.
    """
    settings = load_config(config, JobConfig, engine={"model": model}, **flags).for_style()
    spec = settings.engine.find_model()
    opened = open_manifest(manifest, Reading.of(settings.model_dump()))
    check = ManifestCheck(opened, settings, spec)
    check.check_rows()
    check.check_images(images)
    timing = None
    if estimate and not check.problems:
        from batch_jobs.validation.estimate import Estimate

        timing = Estimate(check).run()
    if problems := check.problems:
        kinds = f"{counted(len(problems), 'kind')} of fault"
        lines = [*problems, *check.warnings, f"rayedit: {_counts(check)}: {kinds}"]
        typer.secho("\n".join(lines), err=True)
        raise typer.Exit(Exit.REFUSED)
    typer.echo(_summary(check))
    if timing is not None:
        typer.echo(timing)


def _counts(check: ManifestCheck) -> str:
    rows, files = counted(len(check.plan), "row"), counted(len(check.manifest.files), "file")
    opened = counted(check.images_opened, "image")
    place = rows if check.manifest.reading.instructions else f"{rows} in {files}"
    return f"{check.manifest.location}: {place}, {opened} opened"


def _summary(check: ManifestCheck) -> str:
    return "\n  ".join([_counts(check), *check.manifest.notes, *check.warnings])
