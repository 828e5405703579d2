"""What a factory can be told, from YAML and from the command line."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from batch_jobs.config import JobConfig

PairerName = Literal["programmatic", "editor"]
Language = Literal["english", "chinese"]
# One strength of an arithmetic is like another; a model is asked again, as it may do better.
N_SAMPLES: dict[PairerName, int] = {"programmatic": 1, "editor": 8}


class TripletConfig(BaseModel):
    """How a factory makes, judges and chooses its triplets."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    job: Annotated[
        JobConfig, Field(description="how the job runs, and its model: the keys of a batch")
    ] = JobConfig()
    pairer: Annotated[
        PairerName,
        Field(
            description="who makes the edited picture: programmatic, the arithmetic that pocket "
            "was trained on; editor, the model"
        ),
    ] = "editor"
    rewriter: Annotated[
        str,
        Field(
            description="who makes instruction and edited caption: grammar, or the URL of an "
            "OpenAI-compatible server, such as http://localhost:8000/v1"
        ),
    ] = "grammar"
    rewriter_model: Annotated[
        str | None, Field(description="the model that the server is asked for")
    ] = None
    rewriter_requests: Annotated[
        int, Field(ge=1, le=256, description="requests that the server has at a time")
    ] = 8
    rewrites: Annotated[
        int, Field(ge=1, le=100, description="instructions for each caption, each another edit")
    ] = 1
    language: Annotated[
        tuple[Language, ...],
        Field(min_length=1, description="of the grammar's instructions: english, chinese; both"),
    ] = ("english", "chinese")
    kind: Annotated[
        tuple[str, ...],
        Field(description="kinds of edit that the grammar draws from, such as night; default: all"),
    ] = ()
    caption_column: Annotated[
        str | None, Field(description="the column of captions, whatever it is called")
    ] = None
    n_samples: Annotated[
        int | None,
        Field(
            ge=1,
            le=1000,
            description="candidates for each instruction; default: 1 of programmatic, 8 of editor",
        ),
    ] = None
    max_out_samples: Annotated[
        int, Field(ge=1, description="candidates that are kept of each instruction: the best")
    ] = 4
    min_cfg: Annotated[
        float | None,
        Field(
            ge=0,
            le=20,
            description="least guidance_scale of a candidate; default: 0.8 x the model's",
        ),
    ] = None
    max_cfg: Annotated[
        float | None, Field(ge=0, le=20, description="greatest; default: 1.2 x the model's")
    ] = None
    min_image_cfg: Annotated[
        float | None,
        Field(ge=0, le=5, description="least image_guidance_scale; default: 0.8 x the model's"),
    ] = None
    max_image_cfg: Annotated[
        float | None, Field(ge=0, le=5, description="greatest; default: 1.2 x the model's")
    ] = None
    min_change: Annotated[
        float,
        Field(
            ge=0,
            le=255,
            description="a pair with less is filtered: root mean square of the difference, in "
            "levels of 0..255",
        ),
    ] = 3.0
    min_edge_correlation: Annotated[
        float | None,
        Field(
            ge=-1,
            le=1,
            description="a pair whose edges correlate less is filtered; default: 0.15 of editor, "
            "none of programmatic",
        ),
    ] = None
    shard_mb: Annotated[
        int, Field(ge=1, le=4096, description="MB of pictures in a file of the data set, about")
    ] = 256

    @property
    def samples(self) -> int:
        """Candidates for each instruction."""
        return self.n_samples or N_SAMPLES[self.pairer]

    @model_validator(mode="after")
    def _ranges_have_two_ends(self) -> Self:
        for name in ("cfg", "image_cfg"):
            least, most = getattr(self, f"min_{name}"), getattr(self, f"max_{name}")
            if (least is None) != (most is None):
                raise ValueError(f"min_{name} and max_{name} go together")
            if least is not None and least > most:
                raise ValueError(f"min_{name} {least} is above max_{name} {most}")
        return self
