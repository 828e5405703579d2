"""What an operator sets: one frozen model, read from YAML, unknown keys refused."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, field_validator

from engine.built_in_styles import BUILT_IN
from engine.errors import OptionInvalid
from engine.fields import read_yaml, validate
from engine.hub import HubFolders
from engine.options import Determinism, EditOptions
from engine.registry import find_model
from engine.spec import ModelSpec
from engine.styles import Styles, load_styles

TextEncoderPlace = Literal["device", "cpu", "swap"]
Quantization = Literal["none", "int8", "float8", "nf4"]
M = TypeVar("M", bound=BaseModel)


class EngineConfig(BaseModel):
    """How one `EditActor` loads and runs its model."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: Annotated[
        str, Field(description="a registered name, a diffusers folder, or hub_id@revision")
    ] = "pocket"
    hf_cache_dir: Annotated[
        str | None,
        Field(description="where what is fetched from the hub is kept; default: its own cache"),
    ] = None
    hf_local_dir: Annotated[
        str | None,
        Field(
            description="a folder of its own for the weights of a hub id, as plain files: the "
            "model is that folder then, known by the digest of its files"
        ),
    ] = None
    controlnet: Annotated[
        str | None,
        Field(
            description="of a model that has one: the folder or hub_id@revision of its ControlNet, "
            "in place of the model's own"
        ),
    ] = None
    resolution: Annotated[
        int | None, Field(ge=16, le=4096, description="side in px that replaces the model's own")
    ] = None
    device: Annotated[str, Field(description="auto, cpu, cuda, cuda:N")] = "auto"
    dtype: Annotated[
        Literal["auto", "float32", "float16", "bfloat16"],
        Field(description="weights; auto: float32 on a CPU, the model's half precision on a GPU"),
    ] = "auto"
    text_encoder: Annotated[
        TextEncoderPlace,
        Field(
            description="where texts are read that are not kept: device; cpu: the device holds no "
            "weights for it, and gets embeddings; swap: the weights wait on the CPU, and come to "
            "the device a layer at a time"
        ),
    ] = "device"
    quantization: Annotated[
        Quantization,
        Field(
            description="what the linear layers of the denoiser are kept as, and computed in dtype "
            "from: int8 and float8 need rayedit[torchao], nf4 (4 bits) rayedit[bitsandbytes] and a "
            "GPU"
        ),
    ] = "none"
    determinism: Annotated[
        Determinism,
        Field(
            description="seeded: noise from the seed alone; bucket: same bytes whatever the "
            "neighbours; strict: the output is a function of the request alone"
        ),
    ] = "seeded"
    num_threads: Annotated[
        int | None,
        Field(
            ge=1,
            description="CPU threads of torch; default: this machine's cores, which the workers of "
            "a job share but in strict",
        ),
    ] = None
    max_batch_size: Annotated[
        int, Field(ge=1, le=256, description="samples that share a denoising step")
    ] = 4
    channels_last: Annotated[
        bool | None,
        Field(description="weights in channels-last order; default: on a CPU, where it is faster"),
    ] = None
    cuda_graphs: Annotated[
        bool, Field(description="replay whole denoising steps as CUDA graphs; needs a GPU")
    ] = False
    compile: Annotated[
        bool, Field(description="compile the model's repeated blocks at first use: minutes")
    ] = False
    calibration: Annotated[
        str | None,
        Field(description="YAML of `rayedit calibrate`: how many samples of each size fit and pay"),
    ] = None
    translate: Annotated[
        str,
        Field(
            description="how instructions in a script that the model does not know become English: "
            "off; phrases: what pocket can do, in Chinese; or the URL of an OpenAI-compatible "
            "server, such as http://host:8000/v1"
        ),
    ] = "off"
    translate_model: Annotated[
        str, Field(description="the model that such a server is asked for")
    ] = "default"
    styles: Annotated[
        str | None,
        Field(description="YAML of the styles that edits can name; default: the built-in ones"),
    ] = None
    lora_memory_mb: Annotated[
        int,
        Field(
            ge=1,
            description="MB of LoRA that stay on the device beside the model; what was used "
            "longest ago leaves, and is read again",
        ),
    ] = 1024
    options: Annotated[
        EditOptions,
        Field(description="what an edit that does not say has, in place of the model's defaults"),
    ] = EditOptions()

    @field_validator("translate")
    @classmethod
    def _translate_is_a_known_way(cls, value: str) -> str:
        if value in ("off", "phrases"):
            return value
        url = urlsplit(value)
        if url.scheme not in ("http", "https") or not url.hostname:
            raise ValueError("must be off, phrases, or a URL that begins with http:// or https://")
        if url.username or url.query:  # it is written into job.json and reports
            raise ValueError("give the key as RAYEDIT_TRANSLATE_API_KEY, and not in the URL")
        return value

    def find_model(self) -> ModelSpec:
        """Find the model with this configuration's ControlNet, resolution, options and LoRAs.

        Raises `ModelUnknown`, `ModelError`, `OptionInvalid` for an option that it does not have,
        `AdapterUnusable`, and `OptionError` for styles that cannot be read.
        """
        hub = HubFolders(self.hf_cache_dir, self.hf_local_dir)
        spec = find_model(self.model, self.resolution, hub)
        if self.controlnet is not None:
            spec = spec.with_controlnet(self.controlnet)
        spec = spec.preset(self.options)
        return replace(spec, styles=self.find_styles().adapters(spec))

    def find_styles(self) -> Styles:
        """Find the styles that edits can name; raises `OptionError`."""
        return BUILT_IN if self.styles is None else load_styles(self.styles)

    def for_style(self, name: str | None) -> Self:
        """Take the model that style `name` is of, where this configuration names none.

        Raises `OptionError` for styles that cannot be read; a name that is not there is for who
        uses it.
        """
        if name is None or "model" in self.model_fields_set:
            return self
        style = self.find_styles().by_name.get(name)
        if style is None or style.model is None:
            return self
        return self.model_copy(update={"model": style.model})

    @property
    def threads(self) -> int:
        """CPU threads of torch; 1 and 2 threads differ in bits."""
        return self.num_threads or cores()


def cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):  # not on macOS
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def load_config(
    path: str | Path | None, kind: type[M], section: str = "", /, **overrides: Any
) -> M:
    """The YAML file at `path`, or the defaults where there is none, as a `kind`, with `overrides`
    (those not `None`) on top.

    `section`: where the file has a key of this name, what stands under it is meant. Raises
    `OptionError` naming the file and the key.
    """
    loaded = {} if path is None else read_yaml(path, "config")
    return validate(kind, merge(loaded.get(section) or loaded, overrides), strict=False)


def merge(base: Any, overrides: dict[str, Any]) -> dict[str, Any]:
    """`base` with the values of `overrides` that are not `None`, section by section."""
    if not isinstance(base, dict):
        raise OptionInvalid(f"{base!r} must be keys and values, as model: pocket", param="config")
    merged = dict(base)
    for key, value in overrides.items():
        if isinstance(value, dict):
            merged[key] = merge(merged.get(key) or {}, value)
        elif value is not None:
            merged[key] = value
    return merged
