"""The programmatic pairer: the edit is arithmetic, and so is known to be right."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from batch_jobs.manifest.carried import carried_values
from batch_jobs.stages.decode import DecodedRow
from batch_jobs.stages.edit import Model
from engine.config import EngineConfig
from engine.edit import EditFailure, EditOutcome, EditResult
from engine.spec import ModelSpec
from triplet_jobs.arithmetic import arithmetic_digest, find_kind, training
from triplet_jobs.captions import KIND
from triplet_jobs.pairing import PairWorker

RESOLUTION = 256  # px: what InstructPix2Pix is trained at


def arithmetic_spec(config: EngineConfig) -> ModelSpec:
    """Describe the arithmetic as a model, of the configured resolution; it has no weights.

    Raises `OptionInvalid` for an option that it does not have.
    """
    spec = ModelSpec(
        name="programmatic",
        source=str(Path(training("kinds").__file__ or "").parent),
        editor="",
        revision=arithmetic_digest(),
        defaults={"num_inference_steps": 1},
        resolution=config.resolution or RESOLUTION,
        multiple=8,
        max_side=4096,
        scripts=("LATIN", "CJK"),
        licence="apache-2.0",
    )
    return spec.preset(config.options)


@dataclass(frozen=True, slots=True)
class Arithmetic:
    """Stands where a model does."""

    spec: ModelSpec
    revision: str
    config: EngineConfig
    alive: bool = True

    def close(self) -> None:
        """End it: there is nothing to end."""


class ProgrammaticWorker(PairWorker):
    """Applies to each row the kind of edit that it carries, at a strength drawn from its seed."""

    def _load(self, config: EngineConfig, spec: ModelSpec) -> Model:
        return Arithmetic(spec, spec.revision or "", config)

    def _edit(self, rows: Sequence[DecodedRow]) -> list[EditOutcome]:
        return [self._applied(row) for row in rows]

    def _applied(self, row: DecodedRow) -> EditOutcome:
        kinds, entry = training("kinds"), row.entry
        try:
            if row.prepared is None:
                raise ValueError("the row was not decoded")
            kind = find_kind(carried_values(entry.carried)[KIND])
            request = row.prepared.request
            seed = request.options.seed
            strength = np.random.default_rng(seed).uniform(*kinds.STRENGTHS)
            colours = request.pixels.astype(np.float32) / 255
            edited = np.rint(kind.apply(colours, float(strength)) * 255).astype(np.uint8)
        except Exception as error:  # whatever is wrong with a row stays with the row
            return EditFailure.of(entry.id, error)
        return EditResult(entry.id, [edited], [seed])
