"""`python -m batch_jobs MANIFEST OUTPUT`: the same as `rayedit batch`."""

from __future__ import annotations

import sys

if __name__ == "__main__" and not sys.flags.safe_path:
    sys.path.append(sys.path.pop(0))  # the working folder, and its stranger named engine.py, last

from collections import Counter
from pathlib import Path
from typing import Annotated, Any

import typer

from batch_jobs.config import JobConfig
from batch_jobs.job import Job, over_ray
from batch_jobs.stopping import Exit
from engine.config import EngineConfig, load_config
from engine.counted import counted
from engine.errors import EngineError
from engine.flags import with_flags
from engine.options import Determinism, EditOptions
from storage.storage import Storage

# of how the manifest is read
MANIFEST_FLAGS = (
    *("instruction", "glob", "image_column", "instruction_column", "id_column"),
    *("chain_id_column", "turn_column", "image_base", "image_root", "style", "accept"),
)
JOB_FLAGS = (
    *MANIFEST_FLAGS,
    "carry",
    *("seed", "same_seed", "retry", "max_error_rate", "rows_per_commit"),
    *("check_sources", "output_format", "output_compression", "metadata", "prune"),
)
ENGINE_FLAGS = ("translate",)
EDIT_FLAGS = [name for name in EditOptions.model_fields if name not in JOB_FLAGS]
MANIFEST = (
    "Parquet, JSONL, JSON, CSV or XLSX: file, folder or glob; with --instruction a folder of "
    "pictures."
)
OUTPUT_FILES = {
    "results": "results/",
    "images": "images/",
    "report": "report.html",
    "failed rows": "failed.csv",
    "contact sheet": "contact_sheet.png",
}


@with_flags((JobConfig, JOB_FLAGS), (EngineConfig, ENGINE_FLAGS), (EditOptions, EDIT_FLAGS))
def batch(
    manifest: Annotated[str, typer.Argument(help=MANIFEST)],
    output: Annotated[str, typer.Argument(help="Where results and images go; path or URI.")],
    config: Annotated[Path | None, typer.Option(help="YAML of a job; see configs/batch/.")] = None,
    model: Annotated[str | None, typer.Option(help="Name, folder, or hub_id@revision.")] = None,
    determinism: Annotated[Determinism | None, typer.Option(help="What bytes depend on.")] = None,
    address: Annotated[
        str | None, typer.Option(help="Ray cluster; default: one of its own.")
    ] = None,
    **flags: Any,
) -> None:
    """Edit every row of MANIFEST into OUTPUT. Run it again to resume.

    A folder of pictures needs no manifest: --instruction edits every picture below it, given again
    every picture with each.

    An option of an edit, such as --guidance-scale, is for the rows that do not say.

    Exit codes: 0 all rows are ok; 2 refused before anything started; 3 finished, some rows failed
    (failed.csv names them); 4 stopped early, what is done is kept; 143 or 130 after
    SIGTERM or Ctrl-C, likewise.
    """
    options = {name: flags.pop(name) for name in EDIT_FLAGS if name in flags}
    engine = {name: flags.pop(name, None) for name in ENGINE_FLAGS}
    engine |= {"model": model, "determinism": determinism, "options": options}
    try:
        raise typer.Exit(_run(manifest, output, config, {"engine": engine, **flags}, address))
    except EngineError as error:
        typer.secho(f"rayedit: {error.message}", err=True, fg="red")
        raise typer.Exit(Exit.REFUSED) from None


def _run(
    manifest: str, output: str, config: Path | None, overrides: dict[str, Any], address: str | None
) -> Exit:
    settings = load_config(config, JobConfig, **overrides).for_style()
    job = Job.open(manifest, output, settings, run_blocks=over_ray(address))
    code = job.run()
    if code in (Exit.OK, Exit.FAILED_ROWS):
        typer.echo(_summary(job.success(), job.storage))
    else:
        say_how_far(job, code)
    return code


def say_how_far(job: Job, code: Exit) -> None:
    """Have the last word after a job that was stopped: what is done, and how it goes on."""
    try:
        statuses = Counter(job.ledger.read(["status"])["status"].to_pylist())
    except OSError:  # the storage that stopped it: that was said
        return
    total = counted(len(job.plan.rows), "row")
    line = f"rayedit: {statuses.total():,} of {total} done, {statuses['error']:,} failed"
    if code is not Exit.STOPPED:  # then the reason said how to go on
        line += ": the same command goes on"
    typer.echo(line, err=True)


def _summary(success: dict[str, Any], storage: Storage) -> str:
    errors = ", ".join(f"{code} {count}" for code, count in success["errors"].items())
    failed = f", {success['error']} failed ({errors})" if errors else ""
    lines = [f"{counted(success['rows'], 'row')}: {success['ok']:,} ok{failed}"]
    written = {name: path for name, path in OUTPUT_FILES.items() if storage.exists(path)}
    lines += [f"  {name:<15}{storage.uri(path)}" for name, path in written.items()]
    return "\n".join(lines)


def main() -> None:
    """The entry of `python -m batch_jobs`."""
    typer.run(batch)


if __name__ == "__main__":
    main()
