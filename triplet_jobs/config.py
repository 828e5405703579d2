"""What a factory can be told, from YAML and from the command line."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from batch_jobs.config import JobConfig
from engine.pair import P2PAttention

PairerName = Literal["programmatic", "editor", "prompt_to_prompt"]
Language = Literal["english", "chinese"]
# One strength of an arithmetic is like another; a model is asked again, as it may do better. 100 is
# InstructPix2Pix's (dataset_creation/generate_img_dataset.py), which few pairs of its survive.
N_SAMPLES: dict[PairerName, int] = {"programmatic": 1, "editor": 8, "prompt_to_prompt": 100}
P2P_FIELDS = ("min_p2p", "max_p2p", "p2p_attention")
CLIP_THRESHOLDS = ("clip_threshold", "clip_dir_threshold", "clip_img_threshold")

MIN_FOLLOWING = 0.5  # docs/decisions.md


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
            "was trained on; editor, the model; prompt_to_prompt, a text-to-image model, which "
            "paints both pictures from their captions"
        ),
    ] = "editor"
    rewriter: Annotated[
        str,
        Field(
            description="who makes instruction and edited caption: grammar; the URL of an "
            "OpenAI-compatible server, such as http://localhost:8000/v1; or the folder of a "
            "language model as transformers saves it, or its GGUF file"
        ),
    ] = "grammar"
    rewriter_model: Annotated[
        str | None, Field(description="the model that the server is asked for")
    ] = None
    rewriter_requests: Annotated[
        int,
        Field(
            ge=1,
            le=256,
            description="requests that the server has at a time; captions in a call of a folder's "
            "model",
        ),
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
            description="candidates for each instruction; default: 1 of programmatic, 8 of editor, "
            "100 of prompt_to_prompt",
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
            description="least guidance_scale of a candidate; default: 0.8 x the model's, 7.5 of "
            "prompt_to_prompt",
        ),
    ] = None
    max_cfg: Annotated[
        float | None, Field(ge=0, le=20, description="greatest; default: 1.2 x the model's; 15")
    ] = None
    min_p2p: Annotated[
        float,
        Field(
            ge=0,
            le=1,
            description="prompt_to_prompt: least share of the steps at which the second picture "
            "has the attention of the first",
        ),
    ] = 0.1
    max_p2p: Annotated[float, Field(ge=0, le=1, description="greatest")] = 0.9
    p2p_attention: Annotated[
        P2PAttention,
        Field(
            description="which attention that is: self, of the pixels among each other, as "
            "InstructPix2Pix's; cross, of the pixels with the words; both"
        ),
    ] = "self"
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
    clip: Annotated[
        str | None,
        Field(
            description="a folder with a CLIP as transformers saves it, such as a copy of "
            "openai/clip-vit-large-patch14: InstructPix2Pix's four scores judge pairs too"
        ),
    ] = None
    clip_threshold: Annotated[
        float,
        Field(ge=-1, le=1, description="least cosine of each picture and its caption, with clip"),
    ] = 0.2
    clip_dir_threshold: Annotated[
        float,
        Field(
            ge=-1,
            le=1,
            description="least cosine of the change between the pictures and between the captions",
        ),
    ] = 0.2
    clip_img_threshold: Annotated[
        float, Field(ge=-1, le=1, description="least cosine of the two pictures")
    ] = 0.7
    judge: Annotated[
        str | None,
        Field(
            description="a model that knows its own edits and sees which of them was made, such as "
            "pocket: it judges pairs too"
        ),
    ] = None
    min_following: Annotated[
        float,
        Field(
            ge=0,
            le=1,
            description="a pair of which the judge is less sure that it is what the instruction "
            "says is filtered; none of an instruction that it does not know",
        ),
    ] = MIN_FOLLOWING
    shard_mb: Annotated[
        int, Field(ge=1, le=4096, description="MB of pictures in a file of the data set, about")
    ] = 256

    @property
    def samples(self) -> int:
        """Candidates for each instruction."""
        return self.n_samples or N_SAMPLES[self.pairer]

    @model_validator(mode="after")
    def _ranges_have_two_ends(self) -> Self:
        for name in ("cfg", "image_cfg", "p2p"):
            least, most = getattr(self, f"min_{name}"), getattr(self, f"max_{name}")
            if (least is None) != (most is None):
                raise ValueError(f"min_{name} and max_{name} go together")
            if least is not None and least > most:
                raise ValueError(f"min_{name} {least} is above max_{name} {most}")
        return self

    @model_validator(mode="after")
    def _what_has_no_effect_is_refused(self) -> Self:
        fields = type(self).model_fields.items()
        given = {name for name, field in fields if getattr(self, name) != field.default}
        for name in CLIP_THRESHOLDS if self.clip is None else ():
            if name in given:
                raise ValueError(f"{name} needs clip, the folder of a CLIP")
        if "min_following" in given and self.judge is None:
            raise ValueError("min_following needs judge, a model that has one, such as pocket")
        for name in P2P_FIELDS:
            if name in given and self.pairer != "prompt_to_prompt":
                raise ValueError(f"{name} has no effect on pairer {self.pairer}")
        return self
