"""The families of models, by the pipelines that their folders name."""

from __future__ import annotations

from engine.catalogue import (
    DREAMLITE,
    FLUX2_DEV,
    FLUX2_KLEIN,
    FLUX_KONTEXT,
    INSTRUCT_PIX2PIX,
    QWEN_IMAGE_EDIT,
    SD15_CANNY,
    SDXL_INSTRUCT_PIX2PIX,
)

# `_class_name` of a folder's model_index.json -> its Editor.
EDITORS = {
    "DreamLiteMobilePipeline": DREAMLITE.editor,
    "DreamLitePipeline": DREAMLITE.editor,
    "Flux2KleinInpaintPipeline": FLUX2_KLEIN.editor,
    "Flux2KleinPipeline": FLUX2_KLEIN.editor,
    "Flux2Pipeline": FLUX2_DEV.editor,
    "FluxKontextInpaintPipeline": FLUX_KONTEXT.editor,
    "FluxKontextPipeline": FLUX_KONTEXT.editor,
    "QwenImageEditInpaintPipeline": QWEN_IMAGE_EDIT.editor,
    "QwenImageEditPipeline": QWEN_IMAGE_EDIT.editor,
    "QwenImageEditPlusPipeline": QWEN_IMAGE_EDIT.editor,
    "StableDiffusionControlNetImg2ImgPipeline": SD15_CANNY.editor,
    "StableDiffusionControlNetPipeline": SD15_CANNY.editor,
    "StableDiffusionInstructPix2PixPipeline": INSTRUCT_PIX2PIX.editor,
    "StableDiffusionPipeline": SD15_CANNY.editor,
    "StableDiffusionXLInstructPix2PixPipeline": SDXL_INSTRUCT_PIX2PIX.editor,
}
