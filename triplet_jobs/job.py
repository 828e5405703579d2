"""The job of a factory: a batch job over candidates, then a choice among them."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Self

import engine
from batch_jobs.job import Job, over_ray
from batch_jobs.job_plan import JobPlan
from batch_jobs.ledger.layout import SUCCESS
from batch_jobs.ledger.lease import Lease
from batch_jobs.ledger.ledger import Ledger
from batch_jobs.ledger.previous_run import PreviousRun
from batch_jobs.stages.edit import EditWorker
from batch_jobs.stages.run import RunBlocks, Work
from batch_jobs.stopping import Exit
from engine.catalogue import MODELS
from engine.edit_judge import find_judge
from engine.errors import OptionInvalid
from engine.pair import find_pair_model
from engine.quality.clip_scores import find_clip
from engine.spec import ModelSpec
from storage.storage import Storage
from triplet_jobs.candidates import OPTIONS, Candidates, scale_ranges
from triplet_jobs.config import CLIP_THRESHOLDS, P2P_FIELDS, PairerName, TripletConfig
from triplet_jobs.data_set import ACCOUNT, publish_data_set
from triplet_jobs.filters import Filters
from triplet_jobs.folder_rewriter import RunRewriting, rewritten_over_ray
from triplet_jobs.pairing import PairWorker
from triplet_jobs.programmatic import ProgrammaticWorker, arithmetic_spec
from triplet_jobs.prompt_to_prompt import PromptToPromptWorker
from triplet_jobs.rewrites import rewrite_by
from triplet_jobs.selection import COLUMNS, settle, wanted_back

WORKERS: dict[PairerName, type[EditWorker]] = {
    "programmatic": ProgrammaticWorker,
    "editor": PairWorker,
    "prompt_to_prompt": PromptToPromptWorker,
}
FINISHED = (Exit.OK, Exit.FAILED_ROWS)


@dataclass(frozen=True, slots=True)
class TripletJob:
    """Makes a data set of triplets of captions; running it again resumes it."""

    job: Job
    config: TripletConfig

    @classmethod
    def open(
        cls,
        captions: str,
        output: str,
        config: TripletConfig,
        *,
        spec: ModelSpec | None = None,
        run_blocks: RunBlocks | None = None,
        run_rewriting: RunRewriting | None = None,
    ) -> Self:
        """Read the captions and write them out as candidates; a rewriter that is a language model
        is asked, and its answers kept in the output.

        Raises `RequestError`, `ModelError`, and `NotReady` where that model does not answer.
        """
        storage = Storage.open(output)
        config = _as_pairs(config)
        spec = bare(spec or find_model(config))
        clip = None if config.clip is None else find_clip(config.clip)
        ranges = scale_ranges(config, spec)
        rewrite = rewrite_by(config, storage, run_rewriting or rewritten_over_ray())
        judge = None if config.judge is None else find_judge(config.judge)
        candidates = Candidates(config, ranges, rewrite, clip, judge)
        job = config.job
        plan = JobPlan.make(captions, job, PreviousRun(storage), spec, candidates.read)
        work = Work(WORKERS[config.pairer], (config,))
        told = _told(config, plan)
        conclude = partial(_conclude, storage=storage, config=config, told=told)
        return cls(Job(plan, storage, run_blocks or over_ray(), work, conclude), config)

    def run(self) -> Exit:
        """Make and judge every candidate that is not done, choose, and write the data set.

        Raises what `Job.run` does.
        """
        self.job.remaining(PreviousRun(self.job.storage))  # refuses an output of something else
        self._take_back()
        code = self.job.run()
        if code in FINISHED and self._take_back():  # the choice fell on other ones than before
            code = self.job.run()
        return code

    def account(self) -> dict[str, Any]:
        """Read what became of the candidates of a finished job."""
        return json.loads(self.job.storage.read(ACCOUNT))

    def _take_back(self) -> bool:
        """Forget results that other settings took the pictures from, so that they are made again,
        and that a job has finished which chose by other settings."""
        storage, ledger = self.job.storage, self.job.ledger
        rows = ledger.read(COLUMNS, placed=True)
        back = wanted_back(rows, self.config)
        is_as_chosen = storage.exists(ACCOUNT) and self._settings_of_last == self._settings
        if not len(rows) or (is_as_chosen and not len(back)):
            return False
        with Lease(storage):
            ledger.remove(back)
            storage.remove(SUCCESS)
        return bool(len(back))

    @property
    def _settings(self) -> dict[str, Any]:
        return json.loads(json.dumps(_told(self.config, self.job.plan)))

    @property
    def _settings_of_last(self) -> dict[str, Any]:
        return self.account()["settings"]


def _conclude(
    ledger: Ledger, *, storage: Storage, config: TripletConfig, told: dict[str, Any]
) -> None:
    settle(ledger, config)
    publish_data_set(ledger, storage, config, told)


def find_model(config: TripletConfig) -> ModelSpec:
    """Find who edits: the configured model, or the arithmetic; raises what `find_model` does."""
    engine_config = config.job.engine
    if config.pairer == "programmatic":
        return arithmetic_spec(engine_config)
    if config.pairer == "prompt_to_prompt":
        return find_pair_model(engine_config)
    return engine_config.find_model()


def bare(spec: ModelSpec) -> ModelSpec:
    """Return a model whose results are what it makes, at its own size."""
    defaults = {name: value for name, value in spec.defaults.items() if name in OPTIONS}
    return replace(spec, defaults=defaults)


def _as_pairs(config: TripletConfig) -> TripletConfig:
    """Have pictures that go removed, and nothing of a command in those that stay; folders by their
    whole path, as workers have another working folder. Raises `OptionInvalid` for options that a
    pair does not have."""
    job = config.job
    for name in job.engine.options.model_fields_set:
        if name not in OPTIONS:
            raise OptionInvalid(
                f"{name} is no option of a pair, which is what a model was shown and what it made",
                param=name,
            )
    if job.style is not None:
        raise OptionInvalid("a pair has no style: its instruction is all", param="style")
    return config.model_copy(update={**_whole(config), "job": job.model_copy(update=AS_PAIRS)})


def _whole(config: TripletConfig) -> dict[str, str]:
    """Spell folders by their whole path; a name that is known goes before a folder called so."""
    folders = {name: getattr(config, name) for name in ("clip", "judge", "rewriter")}
    return {
        name: str(Path(place).resolve())
        for name, place in folders.items()
        if place and place != "grammar" and place not in MODELS and Path(place).exists()
    }


AS_PAIRS = {"prune": True, "metadata": False, "carry": True}


def _told(config: TripletConfig, plan: JobPlan) -> dict[str, Any]:
    """List the settings that a data set depends on."""
    thresholds = {"min_following", *CLIP_THRESHOLDS}  # those that count are told as filters
    unsaid = {"job", "rewriter_requests", *thresholds}
    unsaid |= set() if config.pairer == "prompt_to_prompt" else set(P2P_FIELDS)
    own = config.model_dump(exclude=unsaid, exclude_none=True)
    for name in ("clip", "judge", "rewriter"):
        place = getattr(config, name)
        if place is not None and Path(place).is_absolute():
            own[name] = Path(place).name
    told = {"model": plan.spec.name, "model_revision": plan.revision, "seed": config.job.seed}
    filters = {f"min_{name}": least for name, least in Filters.of(config).least}
    samples = {"n_samples": config.samples}
    return {"rayedit": engine.__version__, **told, **own, **samples, **filters}
