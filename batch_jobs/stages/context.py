"""What a stage needs beside its rows."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Self

from batch_jobs.config import JobConfig
from batch_jobs.manifest.plan import base_of
from batch_jobs.manifest.reading import AS_IT_IS, Reading
from engine.spec import ModelSpec
from engine.wire import OutputFormat


@dataclass(frozen=True, slots=True)
class BlockContext:
    """Holds what is the same for every block of a job; it travels to the workers."""

    spec: ModelSpec
    job_seed: int
    base: str  # the folder that relative paths start from
    image_root: str | None  # absolute: the folder that local images and masks must lie in
    same_seed: bool = False
    reading: Reading = AS_IT_IS  # how the manifest is read again
    accept: tuple[str, ...] = ()  # formats beside JPEG, PNG and WebP
    output_format: OutputFormat = "png"

    @classmethod
    def of(cls, manifest: str, config: JobConfig, spec: ModelSpec) -> Self:
        """Make the context of a job over `manifest`."""
        root = os.path.abspath(config.image_root) if config.image_root else None
        reading = Reading.of(config.model_dump())
        return cls(
            *(spec, config.seed, base_of(manifest, reading), root, config.same_seed, reading),
            *(config.accept, config.output_format),
        )
