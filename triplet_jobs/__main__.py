"""`python -m triplet_jobs CAPTIONS OUTPUT`: the same as `rayedit triplets`."""

from __future__ import annotations

import sys

if __name__ == "__main__" and not sys.flags.safe_path:
    sys.path.append(sys.path.pop(0))  # the working folder, and its stranger named engine.py, last

from pathlib import Path
from typing import Annotated, Any

import typer

from batch_jobs.__main__ import say_how_far
from batch_jobs.config import JobConfig
from batch_jobs.job import over_ray
from batch_jobs.stopping import Exit
from engine.config import load_config
from engine.counted import counted
from engine.errors import EngineError, NotReady
from engine.flags import with_flags
from engine.options import Determinism, EditOptions
from storage.storage import Storage
from triplet_jobs.candidates import OPTIONS
from triplet_jobs.config import TripletConfig
from triplet_jobs.data_set import ACCOUNT, CARD, DATA
from triplet_jobs.folder_rewriter import rewritten_over_ray
from triplet_jobs.job import FINISHED, TripletJob

JOB_FLAGS = (
    *("glob", "image_column", "instruction_column", "id_column", "image_base", "image_root"),
    *("accept", "seed", "retry", "max_error_rate", "rows_per_commit", "check_sources"),
    *("output_format", "output_compression"),
)
OWN_FLAGS = [name for name in TripletConfig.model_fields if name != "job"]
EDIT_FLAGS = [name for name in EditOptions.model_fields if name in OPTIONS and name != "seed"]
CAPTIONS = (
    "Photographs, with captions or without: Parquet, JSONL, JSON, CSV, XLSX, or a folder of them; "
    "for prompt_to_prompt captions alone."
)
OUTPUT_FILES = {
    "data set": DATA,
    "card": CARD,
    "account": ACCOUNT,
    "report": "report.html",
    "failed rows": "failed.csv",
}


@with_flags((TripletConfig, OWN_FLAGS), (JobConfig, JOB_FLAGS), (EditOptions, EDIT_FLAGS))
def triplets(
    captions: Annotated[str, typer.Argument(help=CAPTIONS)],
    output: Annotated[str, typer.Argument(help="Where the data set goes; path or URI.")],
    config: Annotated[
        Path | None, typer.Option(help="YAML of a factory; see configs/triplets/.")
    ] = None,
    model: Annotated[str | None, typer.Option(help="Name, folder, or hub_id@revision.")] = None,
    determinism: Annotated[Determinism | None, typer.Option(help="What bytes depend on.")] = None,
    address: Annotated[
        str | None, typer.Option(help="Ray cluster; default: one of its own.")
    ] = None,
    estimate: Annotated[
        bool, typer.Option("--estimate", help="Make 5 candidates and say what all will take.")
    ] = False,
    **flags: Any,
) -> None:
    """Make a data set of edits out of CAPTIONS, into OUTPUT. Run it again to resume.

    Each caption gets instructions, each instruction candidates; the best of those that pass the
    filters are kept, as Parquet in OUTPUT/data. Every candidate has a row in OUTPUT/results, with
    its scores and why it was not kept.

    Exit codes: as of `rayedit batch`. A candidate that is filtered has not failed.
    """
    options = {name: flags.pop(name) for name in EDIT_FLAGS if name in flags}
    engine = {"model": model, "determinism": determinism, "options": options}
    own = {name: flags.pop(name) for name in OWN_FLAGS if name in flags}
    try:
        settings = load_config(config, TripletConfig, job={"engine": engine, **flags}, **own)
        raise typer.Exit(_run(captions, output, settings, address, estimate))
    except EngineError as error:
        typer.secho(f"rayedit: {error.message}", err=True, fg="red")
        is_away = isinstance(error, NotReady)
        raise typer.Exit(Exit.STOPPED if is_away else Exit.REFUSED) from None


def _run(
    captions: str, output: str, settings: TripletConfig, address: str | None, estimate: bool
) -> Exit:
    factory = TripletJob.open(
        *(captions, output, settings),
        run_blocks=over_ray(address),
        run_rewriting=rewritten_over_ray(address),
    )
    if estimate:
        from triplet_jobs.price import price

        typer.echo(price(factory))
        return Exit.OK
    code = factory.run()
    if code in FINISHED:
        typer.echo(_summary(factory.account(), factory.job.storage))
    else:
        say_how_far(factory.job, code)
    return code


def _summary(account: dict[str, Any], storage: Storage) -> str:
    lines = [f"{counted(account['candidates'], 'candidate')}: {account['kept']:,} kept"]
    for what in ("filtered", "failed"):
        if counts := account[what]:
            reasons = ", ".join(f"{reason} {count:,}" for reason, count in counts.items())
            lines[0] += f", {sum(counts.values()):,} {what} ({reasons})"
    written = {name: path for name, path in OUTPUT_FILES.items() if storage.exists(path)}
    lines += [f"  {name:<15}{storage.uri(path)}" for name, path in written.items()]
    return "\n".join(lines)


def main() -> None:
    """The entry of `python -m triplet_jobs`."""
    typer.run(triplets)


if __name__ == "__main__":
    main()
