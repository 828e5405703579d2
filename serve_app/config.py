"""The settings of a server; `configs/serve/` has examples."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from typing import Annotated, Any, Self, cast

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from engine.config import EngineConfig
from engine.fields import validate
from engine.formats import Accept
from engine.images import MAX_BYTES


def _absolute(location: str | None) -> str | None:
    """Make a path mean the same in every process; a URI does."""
    return location if location is None or "://" in location else os.path.abspath(location)


class ServeConfig(BaseModel):
    """Says what is served, in how many replicas, and what a client may ask of it."""

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
    ingress_replicas: Annotated[
        int, Field(ge=1, description="replicas that parse, decode and encode; they need no GPU")
    ] = 1
    decode_workers: Annotated[
        int, Field(ge=1, le=64, description="processes an ingress replica decodes images in")
    ] = 2
    decode_timeout_s: Annotated[
        float,
        Field(
            gt=0,
            le=60,
            description="processor time that decoding one image may take; its process is killed "
            "after that, and the image refused",
        ),
    ] = 1.5
    deadline_s: Annotated[
        float, Field(gt=0, le=300, description="seconds after which an edit is given up (504)")
    ] = 60
    max_body_bytes: Annotated[
        int, Field(ge=1024, le=2**28, description="largest HTTP body; more is refused (413)")
    ] = MAX_BYTES
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

    accept: Accept = ()
    metadata: Annotated[
        bool,
        Field(
            description="write into each PNG the command that makes it again, instruction and all"
        ),
    ] = True
    idempotency_memory_mb: Annotated[
        int,
        Field(
            ge=1,
            le=2**16,
            description="MiB of answers that are kept for a day, for the same Idempotency-Key sent "
            "again; the oldest go first",
        ),
    ] = 256
    results_uri: Annotated[
        str | None,
        AfterValidator(_absolute),
        Field(
            description="folder or URI (docs/storage.md) that all ingresses share, for the images "
            "of response_format=url; none: that is refused"
        ),
    ] = None
    results_lifetime_s: Annotated[
        int,
        Field(ge=60, le=7 * 86_400, description="seconds for which such an image has its URL"),
    ] = 3600
    files_uri: Annotated[
        str | None,
        AfterValidator(_absolute),
        Field(
            description="folder or URI that ingresses and jobs share, for /v1/files, /v1/batches "
            "and images by file_id; none: these are refused"
        ),
    ] = None
    batch_workers: Annotated[
        int, Field(ge=1, description="model actors of a batch, each with num_gpus of its own")
    ] = 1
    batches_at_once: Annotated[
        int, Field(ge=1, description="batches that are edited at a time; later ones wait")
    ] = 1
    public_url: Annotated[
        str | None,
        Field(
            pattern=r"^https?://\S+$",
            description="the address at which clients find this server, for the URLs of images, "
            "such as https://example.com/rayedit; default: that of the request",
        ),
    ] = None
    aliases: Annotated[
        tuple[str, ...],
        Field(description="further names that a client may send as `model`, such as gpt-image-1"),
    ] = ()
    cors_origins: Annotated[
        tuple[str, ...],
        Field(
            description="origins whose pages a browser lets call this server, such as "
            'https://example.com, or "*"; none: pages of this server alone'
        ),
    ] = ()
    api_keys_file: Annotated[
        str | None,
        Field(
            description="a file with the sha256 of an API key and a name on each line; the "
            "environment variable RAYEDIT_API_KEYS holds more; without any, nobody needs a key"
        ),
    ] = None
    requests_per_minute: Annotated[
        float | None, Field(gt=0, description="edits that one API key may make; more are 429")
    ] = None
    insecure_public: Annotated[
        bool, Field(description="serve on a public address without API keys")
    ] = False

    @model_validator(mode="after")
    def _bounds_are_in_order(self) -> Self:
        if self.min_replicas > self.max_replicas:
            raise ValueError(
                f"min_replicas ({self.min_replicas}) is more than max_replicas "
                f"({self.max_replicas})"
            )
        if 1 < self.ingress_replicas > (self.requests_per_minute or math.inf):
            raise ValueError(
                f"requests_per_minute ({self.requests_per_minute:g}) is less than ingress_replicas "
                f"({self.ingress_replicas}): each grants its share, which must be 1 or more"
            )
        return self

    @property
    def surge(self) -> int:
        """Ray Serve's `max_surge_percent`."""
        default = 0 if self.num_gpus else 100
        return default if self.max_surge_percent is None else self.max_surge_percent

    @property
    def longest_wait_s(self) -> float:
        """Tell how long an edit may wait for its turn. A CPU takes a third of a second for a small
        one: with 5 s it would refuse some of twenty that come at once."""
        default_s = 5.0 if self.num_gpus else self.deadline_s / 2
        return default_s if self.max_wait_s is None else self.max_wait_s

    @property
    def max_ongoing_requests(self) -> int:
        """Ray Serve's `max_ongoing_requests` of a replica.

        A replica alone takes every edit that there is: Serve's router would ask a full one again
        and again whether it has a place. One of several takes two batches, so that the model need
        not wait for its next one; the rest waits in the ingress for the first replica with room,
        perhaps one that has just started: an edit that has its replica is not moved to another.
        """
        if self.max_replicas == 1:
            edits = self.ingress_replicas * self.max_in_flight
        else:
            edits = 2 * self.engine.max_batch_size
        return edits + 8  # calls of `ready`

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

    @classmethod
    def of(cls, args: ServeConfig | Mapping[str, Any] | None) -> Self:
        """Make a config of what `serve run` and `serve deploy` pass: nested keys, or dotted ones
        (`engine.model=pocket`) with text as values. Raises `OptionError`."""
        if isinstance(args, ServeConfig):
            return cast(Self, args)
        return validate(cls, _nest(args or {}), strict=False)


def _nest(args: Mapping[str, Any]) -> dict[str, Any]:
    """Nest dotted keys: {"engine.model": "pocket"} -> {"engine": {"model": "pocket"}}."""
    nested: dict[str, Any] = {}
    for name, value in args.items():
        section, dot, rest = name.partition(".")
        if not dot:
            nested[name] = value
        elif isinstance(nested.setdefault(section, {}), dict):
            nested[section] = {**nested[section], rest: value}
    return nested
