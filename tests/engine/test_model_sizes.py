"""The sizes that are told are those of the classes and the weights."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from engine.catalogue import MODELS
from engine.model_sizes import SIZES, ModelSize


def test_every_registered_model_has_a_size() -> None:
    assert SIZES.keys() == MODELS.keys()
    assert all(size.text_layer <= size.text_encoder for size in SIZES.values())


def test_pocket_is_as_large_as_its_files() -> None:
    counts = {}
    for part in ("unet", "vae", "text_encoder"):
        (file,) = Path(MODELS["pocket"].source, part).glob("*.safetensors")
        with safe_open(file, "pt") as weights:
            shapes = [weights.get_slice(name).get_shape() for name in weights.keys()]  # noqa: SIM118
        counts[part] = sum(torch.Size(shape).numel() for shape in shapes) / 1e9
    size = SIZES["pocket"]
    assert size.denoiser == pytest.approx(counts["unet"] + counts["vae"], abs=1e-4)
    assert size.text_encoder == pytest.approx(counts["text_encoder"], abs=1e-4)


def test_denoisers_are_as_large_as_diffusers_builds_them() -> None:
    """Its defaults are the real models'; of klein they are not."""
    from diffusers import (
        AutoencoderKLFlux2,
        AutoencoderKLQwenImage,
        ControlNetModel,
        Flux2Transformer2DModel,
        FluxTransformer2DModel,
        QwenImageTransformer2DModel,
        UNet2DConditionModel,
    )

    with torch.device("meta"):
        flux = _billions(FluxTransformer2DModel(guidance_embeds=True))
        dev = _billions(Flux2Transformer2DModel(), AutoencoderKLFlux2())
        qwen = _billions(QwenImageTransformer2DModel(), AutoencoderKLQwenImage())
        sd15 = _billions(
            UNet2DConditionModel(cross_attention_dim=768), ControlNetModel(cross_attention_dim=768)
        )
    vae = 0.084  # of FLUX.1, and of Stable Diffusion
    assert SIZES["sd15-canny"].denoiser == pytest.approx(sd15 + vae, abs=1e-3)
    assert SIZES["flux-kontext"].denoiser == pytest.approx(flux + vae, abs=1e-3)
    assert SIZES["flux2-dev"].denoiser == pytest.approx(dev, abs=1e-3)
    assert SIZES["qwen-image-edit"].denoiser == pytest.approx(qwen, abs=1e-3)


def _billions(*models: torch.nn.Module) -> float:
    return sum(weight.numel() for model in models for weight in model.parameters()) / 1e9


@pytest.mark.parametrize(
    ("size", "cards"),
    [
        (ModelSize(0.9, 0.1, 0.1), (8, 8)),
        (ModelSize(3.6, 0.0, 0.0), (8, 8)),  # 7.2 GB: nine tenths of it
        (ModelSize(3.61, 0.0, 0.0), (16, 16)),
        (ModelSize(32.3, 17.9, 1.2), (141, 80)),
        (ModelSize(70.0, 0.0, 0.0), (None, None)),
    ],
)
def test_a_card_holds_the_weights_in_nine_tenths_of_it(
    size: ModelSize, cards: tuple[int | None, int | None]
) -> None:
    assert (size.card_gb(), size.small_card_gb()) == cards
