"""The models that rayedit knows by name, and the families. Facts, each with its source; choices
live in `configs/`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from engine.spec import ModelSpec

# No revision is pinned until someone with a hub verifies one; the first load records it.

# Brooks et al. 2023; 512 px from its configuration, 7.5, 1.5 and the licence from its model card,
# 20 steps from the card's example. diffusers takes a missing negative prompt for an empty one.
INSTRUCT_PIX2PIX = ModelSpec(
    name="instruct-pix2pix",
    source="timbrooks/instruct-pix2pix",
    editor="engine.models.instruct_pix2pix:InstructPix2Pix",
    guidance="two_scale",
    options=frozenset({"guidance_scale", "image_guidance_scale", "negative_prompt"}),
    defaults={
        "num_inference_steps": 20,
        "guidance_scale": 7.5,
        "image_guidance_scale": 1.5,
        "negative_prompt": "",
    },
    licence="MIT",
)

# Trained by this project (training/): 3 and 1.3 come nearest to the true edits it was taught,
# 24.2 dB on 90 held-out edits against 22.5 dB at 5 and 1.3.
POCKET = replace(
    INSTRUCT_PIX2PIX,
    name="pocket",
    source=str(Path(__file__).parent / "models" / "pocket"),
    defaults={
        **INSTRUCT_PIX2PIX.defaults,
        "guidance_scale": 3.0,
        "image_guidance_scale": 1.3,
    },
    resolution=128,
    multiple=16,
    max_side=512,
    scripts=("LATIN", "CJK"),
    licence="Apache-2.0",
)

# Black Forest Labs 2025; 28 steps from diffusers' pipeline, guidance 2.5 and the licence from the
# model card. Its sizes are diffusers' `PREFERRED_KONTEXT_RESOLUTIONS`; the longest is the bound.
FLUX_KONTEXT = ModelSpec(
    name="flux-kontext",
    source="black-forest-labs/FLUX.1-Kontext-dev",
    editor="engine.models.flux_kontext:FluxKontext",
    guidance="true_cfg",
    options=frozenset({"guidance_scale", "true_cfg_scale", "negative_prompt", "strength"}),
    defaults={"num_inference_steps": 28, "guidance_scale": 2.5, "true_cfg_scale": 1.0},
    canvas="area",
    resolution=1024,
    sizes=(
        *((672, 1568), (688, 1504), (720, 1456), (752, 1392), (800, 1328), (832, 1248)),
        *((880, 1184), (944, 1104), (1024, 1024), (1104, 944), (1184, 880)),
        *((1248, 832), (1328, 800), (1392, 752), (1456, 720), (1504, 688), (1568, 672)),
    ),
    multiple=16,
    max_side=1568,
    half="bfloat16",
    licence="FLUX.1 [dev] Non-Commercial",
)

MODELS: dict[str, ModelSpec] = {
    spec.name: spec for spec in (POCKET, INSTRUCT_PIX2PIX, FLUX_KONTEXT)
}

# `_class_name` of a folder's model_index.json -> its Editor.
EDITORS = {
    "FluxKontextInpaintPipeline": FLUX_KONTEXT.editor,
    "FluxKontextPipeline": FLUX_KONTEXT.editor,
    "StableDiffusionInstructPix2PixPipeline": INSTRUCT_PIX2PIX.editor,
}
