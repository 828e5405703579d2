"""The models that rayedit knows by name: facts, each with its source. `configs/` holds choices."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from engine.spec import CANNY_THRESHOLDS, ModelSpec

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

# Trained here; scales and steps: training/README.md. The source's size and detail for its 128 px.
POCKET = replace(
    INSTRUCT_PIX2PIX,
    name="pocket",
    source=str(Path(__file__).parent / "models" / "pocket"),
    options=INSTRUCT_PIX2PIX.options | {"strict_instruction"},
    defaults={
        **INSTRUCT_PIX2PIX.defaults,
        "num_inference_steps": 6,
        "guidance_scale": 3.0,
        "image_guidance_scale": 1.3,
        "restore_size": True,
        "detail": "source",
    },
    resolution=128,
    multiple=16,
    max_side=512,
    scripts=("LATIN", "CJK"),
    licence="Apache-2.0",
)

# Trained by Hugging Face on SDXL (Podell et al. 2023): 768 px, 30 steps, 3.0, 1.5 and the licence
# from its model card; diffusers' pipeline stretches to a square. SDXL was trained at one area in
# many aspects, with sides up to twice the square's (section 2.3). No negative prompt is no text.
SDXL_INSTRUCT_PIX2PIX = ModelSpec(
    name="sdxl-instruct-pix2pix",
    source="diffusers/sdxl-instructpix2pix-768",
    editor="engine.models.sdxl_instruct_pix2pix:SdxlInstructPix2Pix",
    guidance="two_scale",
    options=frozenset({"guidance_scale", "image_guidance_scale", "negative_prompt"}),
    defaults={"num_inference_steps": 30, "guidance_scale": 3.0, "image_guidance_scale": 1.5},
    canvas="area",
    resolution=768,
    sizes=((768, 768),),
    multiple=32,
    max_side=1536,
    licence="OpenRAIL++",
)

# Runway 2022 under the edges of a source (Zhang et al. 2023); 50 steps, 7.5 and 1.0 from diffusers'
# pipeline, 100 and 200 from the ControlNet's model card, the licence from both cards.
SD15_CANNY = ModelSpec(
    name="sd15-canny",
    source="stable-diffusion-v1-5/stable-diffusion-v1-5",
    editor="engine.models.controlnet:ControlNet",
    guidance="cfg",
    options=frozenset(
        {
            *("guidance_scale", "negative_prompt", "strength", "controlnet_conditioning_scale"),
            *("control_guidance_start", "control_guidance_end", *CANNY_THRESHOLDS),
        }
    ),
    defaults={
        "num_inference_steps": 50,
        "guidance_scale": 7.5,
        "negative_prompt": "",
        "controlnet_conditioning_scale": 1.0,
        **{"control_guidance_start": 0.0, "control_guidance_end": 1.0},
        **{"canny_low_threshold": 100, "canny_high_threshold": 200},
    },
    max_sources=2,  # the second is a control image
    parts={"controlnet": "lllyasviel/sd-controlnet-canny"},
    licence="CreativeML OpenRAIL-M",
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

# That Qwen3 and Qwen2.5-VL read: those of the languages in Qwen's reports (2409.12191, 2505.09388).
QWEN_SCRIPTS = (
    *("LATIN", "CJK", "HIRAGANA", "KATAKANA", "HANGUL", "CYRILLIC", "GREEK"),
    *("ARABIC", "HEBREW", "DEVANAGARI", "BENGALI", "THAI"),
)

# Black Forest Labs 2026; 4 steps and the licence from the model card, at most 4 sources as its
# makers' API takes them. A megapixel and sides of at most 8 : 1 are diffusers'
# `Flux2ImageProcessor`: 1024 x sqrt(8), down to the multiple.
FLUX2_KLEIN = ModelSpec(
    name="flux2-klein",
    source="black-forest-labs/FLUX.2-klein-4B",
    editor="engine.models.flux2:Flux2",
    guidance="embedded",
    options=frozenset({"strength"}),
    defaults={"num_inference_steps": 4},
    max_sources=4,
    canvas="at_most_area",
    resolution=1024,
    multiple=16,
    max_side=2896,
    half="bfloat16",
    scripts=QWEN_SCRIPTS,
    licence="Apache-2.0",
)

# Not distilled: 50 steps and 4.0 from the model card's example.
FLUX2_KLEIN_BASE = replace(
    FLUX2_KLEIN,
    name="flux2-klein-base",
    source="black-forest-labs/FLUX.2-klein-base-4B",
    guidance="cfg",
    options=frozenset({"guidance_scale", "strength"}),
    defaults={"num_inference_steps": 50, "guidance_scale": 4.0},
)

# Read by Qwen3-8B. Licence and 4 steps from the model card, 50 and 4.0 from its makers' own code.
FLUX2_KLEIN_9B, FLUX2_KLEIN_BASE_9B = (
    replace(spec, name=f"{spec.name}-9b", source=source, licence="FLUX Non-Commercial")
    for spec, source in (
        (FLUX2_KLEIN, "black-forest-labs/FLUX.2-klein-9B"),
        (FLUX2_KLEIN_BASE, "black-forest-labs/FLUX.2-klein-base-9B"),
    )
)

# Black Forest Labs 2025; 50 steps, 4.0 and the licence from the model card's example, at most 6
# sources as its makers recommend. The scripts are of the languages on Mistral Small 3.1's card.
FLUX2_DEV = replace(
    FLUX2_KLEIN,
    name="flux2-dev",
    source="black-forest-labs/FLUX.2-dev",
    options=frozenset({"guidance_scale", "strength"}),
    defaults={"num_inference_steps": 50, "guidance_scale": 4.0},
    max_sources=6,
    scripts=(
        *("LATIN", "CJK", "HIRAGANA", "KATAKANA", "HANGUL", "CYRILLIC", "GREEK"),
        *("ARABIC", "DEVANAGARI", "BENGALI"),
    ),
    licence="FLUX [dev] Non-Commercial",
)

# Qwen team 2025; 50 steps, 4.0, " " and the licence from the model card. The canvas is diffusers'
# `calculate_dimensions`; the longest side is a megapixel at 16 : 1, beyond which no image is taken.
QWEN_IMAGE_EDIT = ModelSpec(
    name="qwen-image-edit",
    source="Qwen/Qwen-Image-Edit",
    editor="engine.models.qwen_image_edit:QwenImageEdit",
    guidance="true_cfg",
    options=frozenset({"true_cfg_scale", "negative_prompt", "strength"}),
    defaults={"num_inference_steps": 50, "true_cfg_scale": 4.0, "negative_prompt": " "},
    canvas="area",
    resolution=1024,
    multiple=32,
    max_side=4096,
    half="bfloat16",
    cuda_graphs=False,  # diffusers 0.42 copies from the host in every call
    scripts=QWEN_SCRIPTS,
    licence="Apache-2.0",
)

# 40 steps and at most 3 sources from the model cards.
QWEN_IMAGE_EDIT_2509 = replace(
    QWEN_IMAGE_EDIT,
    name="qwen-image-edit-2509",
    source="Qwen/Qwen-Image-Edit-2509",
    defaults={**QWEN_IMAGE_EDIT.defaults, "num_inference_steps": 40},
    max_sources=3,
)
QWEN_IMAGE_EDIT_2511 = replace(
    QWEN_IMAGE_EDIT_2509, name="qwen-image-edit-2511", source="Qwen/Qwen-Image-Edit-2511"
)

# ByteDance 2026; 30 steps, 3.5 and 1.5 from diffusers' pipeline, which takes no negative prompt for
# an empty one; a megapixel and the licence from the model card; sides up to SDXL's, whose pruned
# UNet it is (2603.28713).
DREAMLITE = ModelSpec(
    name="dreamlite",
    source="carlofkl/DreamLite-base",
    editor="engine.models.dreamlite:DreamLite",
    revision="diffusers",  # the branch in diffusers' layout
    guidance="two_scale",
    options=frozenset({"guidance_scale", "image_guidance_scale", "negative_prompt"}),
    defaults={
        "num_inference_steps": 30,
        "guidance_scale": 3.5,
        "image_guidance_scale": 1.5,
        "negative_prompt": "",
    },
    canvas="area",
    resolution=1024,
    multiple=32,
    max_side=2048,
    half="bfloat16",
    scripts=QWEN_SCRIPTS,
    licence="CC BY-NC 4.0",
)

# Distilled to 4 steps without guidance (diffusers' DreamLiteMobilePipeline).
DREAMLITE_MOBILE = replace(
    DREAMLITE,
    name="dreamlite-mobile",
    source="carlofkl/DreamLite-mobile",
    guidance="embedded",
    options=frozenset(),
    defaults={"num_inference_steps": 4},
)

MODELS: dict[str, ModelSpec] = {
    spec.name: spec
    for spec in (
        *(POCKET, INSTRUCT_PIX2PIX, SDXL_INSTRUCT_PIX2PIX, SD15_CANNY, FLUX_KONTEXT),
        *(FLUX2_KLEIN, FLUX2_KLEIN_BASE, FLUX2_KLEIN_9B, FLUX2_KLEIN_BASE_9B, FLUX2_DEV),
        *(QWEN_IMAGE_EDIT, QWEN_IMAGE_EDIT_2509, QWEN_IMAGE_EDIT_2511, DREAMLITE, DREAMLITE_MOBILE),
    )
}
