"""The price of a factory before it starts: how many candidates, at what rate, for how long."""

from __future__ import annotations

from batch_jobs.manifest.plan import Manifest
from batch_jobs.manifest.planned import parse_options
from batch_jobs.manifest.thin import THIN, FileRows
from batch_jobs.validation.check import ManifestCheck
from batch_jobs.validation.estimate import Estimate
from engine.counted import counted
from engine.guidance import branches
from triplet_jobs.job import TripletJob


def price(factory: TripletJob) -> str:
    """Make a few candidates in this process, and say what all of them will take, a line each."""
    plan, config = factory.job.plan, factory.config
    faults = plan.rows["fault"]
    good = faults.null_count
    per_caption = config.rewrites * config.samples
    manifest = Manifest(
        plan.manifest,
        plan.rows,
        {file: FileRows(THIN.empty_table(), {}) for file in plan.rows["file"].unique().to_pylist()},
        plan.reading,
    )
    check = ManifestCheck(manifest, plan.config, plan.spec)
    check.check_rows()
    estimate = Estimate(check, factory.job.work)
    lines = [
        f"{counted(good, 'candidate')}: each caption has {config.rewrites} x {config.samples} = "
        f"{per_caption}, of which {config.rewrites} x {config.max_out_samples} are kept at most"
    ]
    if broken := len(faults) - good:
        lines.append(f"  {counted(broken, 'caption')} can have none: the job's failed.csv says why")
    if plan.spec.editor:
        lines.append(f"  {_model_rows(factory):,} rows of model calls in all")
    return "\n".join([*lines, estimate.run(), *check.problems])


def _model_rows(factory: TripletJob) -> int:
    """Count steps x branches of all candidates, twice where both pictures are painted."""
    spec, rows = factory.job.plan.spec, factory.job.plan.rows
    total = 0
    for planned in rows.filter(rows["fault"].is_null())["options"].to_pylist():
        options = spec.resolve(parse_options(planned), seed=0)
        total += options.num_inference_steps * len(branches(spec.guidance, options))
    return total * (1 if spec.max_sources else 2)
