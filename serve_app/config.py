"""The settings of a server; `configs/serve/` has examples."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from typing import Annotated, Any, Self, cast

from pydantic import AfterValidator, Field, model_validator

from engine.config import merge
from engine.errors import OptionError
from engine.fields import validate
from engine.formats import Accept
from engine.images import MAX_BYTES
from serve_app.model_config import APP_NAME, ModelConfig, ModelName, application_of


def _absolute(location: str | None) -> str | None:
    """Make a path mean the same in every process; a URI does."""
    return location if location is None or "://" in location else os.path.abspath(location)


class ServeConfig(ModelConfig):
    """Says what is served, in how many replicas, and what a client may ask of it."""

    models: Annotated[
        dict[ModelName, ModelConfig],
        Field(
            description="several models behind this server, by the names that clients send as "
            "`model`; without `engine.model` the name is the model. Each has the keys above, and "
            "what it does not say from here; the first is of an edit that names none",
        ),
    ] = Field(default_factory=dict)
    aliases: Annotated[
        tuple[str, ...] | dict[str, str],
        Field(
            description="further names that a client may send as `model`: each with its model, as "
            "gpt-image-1: pocket, or a list of names of the first"
        ),
    ] = ()
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

    @model_validator(mode="after")
    def _models_stand_beside_each_other(self) -> Self:
        if self.models and "model" in self.engine.model_fields_set:
            raise ValueError(
                f'engine.model "{self.engine.model}" stands beside models: put it among them'
            )
        places: dict[str, str] = {APP_NAME: "the server itself"}
        for name in self.models:
            other = places.setdefault(application_of(name), name)
            if other != name:
                raise ValueError(f'models: "{name}" and {other} are one name to Serve')
            self.of_model(name)
        return self

    def of_model(self, name: str) -> Self:
        """Return the configuration of one model alone; raises `OptionError`."""
        if not self.models:
            return self
        for_all = self.model_dump(exclude_unset=True, exclude={"models", "aliases"})
        own = self.models[name].model_dump(exclude_unset=True)
        own["engine"] = {"model": name, **own.get("engine", {})}
        try:
            return validate(type(self), merge(for_all, own), strict=False)
        except OptionError as error:
            raise type(error)(f"models.{name}: {error.message}", param="models") from None

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
