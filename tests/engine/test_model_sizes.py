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
        flux = FluxTransformer2DModel(guidance_embeds=True)
        dev, dev_vae = Flux2Transformer2DModel(), AutoencoderKLFlux2()
        qwen, qwen_vae = QwenImageTransformer2DModel(), AutoencoderKLQwenImage()
        unet = UNet2DConditionModel(cross_attention_dim=768)
        controlnet = ControlNetModel(cross_attention_dim=768)
    for name, models in {
        "sd15-canny": [unet, controlnet],
        "flux-kontext": [flux],
        "flux2-dev": [dev],
        "qwen-image-edit": [qwen],
    }.items():
        assert SIZES[name].linear == pytest.approx(_linear_billions(*models), abs=1e-3)
    vae = 0.084  # of FLUX.1, and of Stable Diffusion
    sd15 = _billions(unet, controlnet) + vae
    assert SIZES["sd15-canny"].denoiser == pytest.approx(sd15, abs=1e-3)
    assert SIZES["flux-kontext"].denoiser == pytest.approx(_billions(flux) + vae, abs=1e-3)
    assert SIZES["flux2-dev"].denoiser == pytest.approx(_billions(dev, dev_vae), abs=1e-3)
    assert SIZES["qwen-image-edit"].denoiser == pytest.approx(_billions(qwen, qwen_vae), abs=1e-3)


def _billions(*models: torch.nn.Module) -> float:
    return sum(weight.numel() for model in models for weight in model.parameters()) / 1e9


def _linear_billions(*models: torch.nn.Module) -> float:
    layers = (m for model in models for m in model.modules() if isinstance(m, torch.nn.Linear))
    return sum(layer.weight.numel() for layer in layers) / 1e9


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


def test_quantised_weights_need_a_smaller_card() -> None:
    """Of 12 billion weights in linear layers 12 GB are left, or 6.75, and 2 GB of others."""
    size = ModelSize(denoiser=12.9, text_encoder=5.0, text_layer=0.1, linear=12.0)
    assert (size.small_card_gb(), size.quantised_card_gb("int8")) == (48, 16)
    assert size.quantised_card_gb("nf4") == 16
    assert ModelSize(6.4, 5.0, 0.1, 6.0).quantised_card_gb("int8") == 8
    assert ModelSize(12.1, 5.0, 0.1, 12.0).quantised_card_gb("nf4") == 8
