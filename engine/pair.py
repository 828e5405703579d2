"""A pair: the pictures of two captions, painted from one noise. No torch.

Prompt-to-Prompt (Hertz et al. 2022) as InstructPix2Pix's data set was made by it (Brooks et al.
2023, section 3.1.2): for the first share of the steps the second picture is painted with the
attention of the first, so that they differ in what their captions differ in.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from engine.catalogue import SD15_CANNY
from engine.config import EngineConfig
from engine.edit import EditRequest
from engine.errors import ModelError, OptionInvalid
from engine.hub import HubFolders
from engine.registry import find_model
from engine.spec import ModelSpec

# Which attention is shared: of the pixels among each other, as the reference does; of the pixels
# with the words, as Hertz et al. did; both.
P2PAttention = Literal["self", "cross", "both"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PairRequest(EditRequest):
    """A pair, ready for the model; of `pixels` the shape alone counts.

    Its one image is (H, 2 W, 3): the picture of `instruction`, beside it that of `edited_caption`.
    """

    edited_caption: str
    p2p_threshold: float  # 0 to 1: call i of K shares the attention while it is above i / (K - 1)
    attention: P2PAttention = "self"


def find_pair_model(config: EngineConfig) -> ModelSpec:
    """Find the model that paints pairs: a text-to-image one of Stable Diffusion 1.x, such as the
    base of `sd15-canny`.

    Its options are the reference's, unless `config.options` says otherwise. Raises `ModelUnknown`,
    `ModelError` for a model that paints nothing from a text alone, `OptionInvalid`.
    """
    if config.controlnet is not None:
        raise OptionInvalid(
            "controlnet: pairs are painted from their captions alone; leave it out",
            param="controlnet",
        )
    hub = HubFolders(config.hf_cache_dir, config.hf_local_dir)
    found = find_model(config.model, config.resolution, hub)
    if found.editor != SD15_CANNY.editor:
        raise ModelError(
            f"model {found.name} paints no pairs: Prompt-to-Prompt needs a text-to-image model in "
            f"the layout of Stable Diffusion 1.x, such as {SD15_CANNY.source}"
        )
    painting = replace(
        found,
        name=SD15_CANNY.source if found.name == SD15_CANNY.name else found.name,
        editor="engine.models.prompt_to_prompt:PromptToPrompt",
        options=frozenset({"guidance_scale", "negative_prompt"}),
        # 100 steps of Euler's ancestral sampler: the reference's; 7.5 is the least that it draws.
        defaults={
            "num_inference_steps": 100,
            "guidance_scale": 7.5,
            "negative_prompt": "",
            "scheduler": "euler_ancestral",
        },
        max_sources=0,
        parts={},
    )
    return painting.preset(config.options)
