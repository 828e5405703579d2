"""How one model is served: its engine, its replicas, and how many edits may wait for it."""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from engine.config import EngineConfig

APP_NAME = "rayedit"  # Serve's application of the ingress, and of the replicas of a model alone
ModelName = Annotated[str, Field(pattern=r"^[\w@./-]{1,128}$")]


class ModelConfig(BaseModel):
    """Says how one model is served; what it leaves out, `ServeConfig` says for all."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    engine: Annotated[EngineConfig, Field(description="the model and how a replica runs it")] = (
        EngineConfig()
    )
    min_replicas: Annotated[
        int, Field(ge=0, description="model replicas kept when idle; 0: the first edit waits")
    ] = 1
    max_replicas: Annotated[int, Field(ge=1, description="model replicas at most")] = 1
    target_ongoing_requests: Annotated[
        float | None,
        Field(
            gt=0,
            description="edits a replica that autoscaling aims for; default: the engine's "
            "max_batch_size",
        ),
    ] = None
    upscale_delay_s: Annotated[
        float, Field(ge=0, description="seconds of more traffic before a replica is added")
    ] = 30
    downscale_delay_s: Annotated[
        float, Field(ge=0, description="seconds of less traffic before a replica is taken away")
    ] = 600
    max_surge_percent: Annotated[
        int | None,
        Field(
            ge=0,
            le=100,
            description="model replicas of a new version that start before the old ones stop; "
            "default: 100, and 0 where a replica takes a GPU: there may be no spare one",
        ),
    ] = None
    num_gpus: Annotated[float, Field(ge=0, description="GPUs a model replica reserves")] = 0
    num_cpus: Annotated[float, Field(ge=0, description="CPUs a model replica reserves")] = 1
    max_wait_s: Annotated[
        float | None,
        Field(
            gt=0,
            le=300,
            description="an edit that would wait longer for its turn is refused (503), unless "
            "fewer than two batches are held; `retry-after` says when the queue will be done; "
            "default: 5, and half of deadline_s where a replica takes no GPU",
        ),
    ] = None
    max_in_flight: Annotated[
        int,
        Field(
            ge=1,
            le=10_000,
            description="edits that one ingress replica holds at a time, waiting or running; "
            "more are refused (503)",
        ),
    ] = 64

    @property
    def surge(self) -> int:
        """Ray Serve's `max_surge_percent`."""
        default = 0 if self.num_gpus else 100
        return default if self.max_surge_percent is None else self.max_surge_percent

    @property
    def autoscaling(self) -> dict[str, Any]:
        """Ray Serve's `autoscaling_config`."""
        return {
            "min_replicas": self.min_replicas,
            "max_replicas": self.max_replicas,
            "target_ongoing_requests": self.target_ongoing_requests or self.engine.max_batch_size,
            "upscale_delay_s": self.upscale_delay_s,
            "downscale_delay_s": self.downscale_delay_s,
        }


def application_of(name: str) -> str:
    """Name the Serve application of one of several models: "org/model" -> "org-model"."""
    return re.sub(r"[^\w.-]", "-", name)
