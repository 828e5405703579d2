"""How large the models are that rayedit knows by name, and what card holds them."""

from __future__ import annotations

from dataclasses import dataclass

CARDS_GB = (8, 16, 24, 48, 80, 141)  # 141: H200
WEIGHTS_SHARE = 0.9  # of a card; a choice: CUDA and one sample need room too
BYTES = 2  # of a parameter in half precision
# Of a quantised one: a byte, or half of one and for each 64 of them a scale of 4 bytes.
QUANTISED_BYTES = {"int8": 1.0, "nf4": 0.5625}


@dataclass(frozen=True, slots=True)
class ModelSize:
    """Billions of parameters that are held; what is loaded and never read is dropped before."""

    denoiser: float  # the transformer or UNet, with the VAE
    text_encoder: float  # all of them
    text_layer: float  # what `swap` brings at once: its largest layer, and what all layers need
    linear: float = 0.0  # of the denoiser, in linear layers: what quantization makes smaller

    @property
    def parameters(self) -> float:
        """Billions of parameters."""
        return self.denoiser + self.text_encoder

    @property
    def gigabytes(self) -> float:
        """The weights in half precision."""
        return BYTES * self.parameters

    def card_gb(self) -> int | None:
        """Choose the smallest card that holds the weights with `text_encoder: device`."""
        return _card_gb(self.gigabytes)

    def small_card_gb(self) -> int | None:
        """Choose the smallest card that holds the weights with `cpu` or `swap`, which needs more of
        the two."""
        return _card_gb(BYTES * (self.denoiser + self.text_layer))

    def quantised_card_gb(self, quantization: str) -> int | None:
        """Choose the smallest card that holds the weights with `cpu` or `swap` and this kind of
        `QUANTISED_BYTES`."""
        saved = (BYTES - QUANTISED_BYTES[quantization]) * self.linear
        return _card_gb(BYTES * (self.denoiser + self.text_layer) - saved)


def _card_gb(gigabytes: float) -> int | None:
    holding = (card for card in CARDS_GB if gigabytes <= WEIGHTS_SHARE * card)
    return next(holding, None)


# Counted on torch's `meta` device: diffusers' and transformers' classes with the configurations
# that are public for the parts named here. Where diffusers' own defaults are that configuration, or
# the weights are here, tests/engine/test_model_sizes.py counts again.
_KLEIN = ModelSize(3.960, 3.215, 0.490, 3.876)  # with the VAE; 28 of the 36 layers of Qwen3-4B
_KLEIN_9B = ModelSize(9.163, 6.025, 0.815, 9.079)  # the same, of Qwen3-8B
# 20.430 and the VAE; Qwen2.5-VL-7B without its head
_QWEN = ModelSize(20.557, 7.747, 0.824, 20.425)
# 0.39 from the model's repository and diffusers' tiny VAE; Qwen3-VL-2B. Of the first that is all
# there is: its public 5.07 GB are 2 bytes for each of the two. Its linear layers are not public.
_DREAMLITE = ModelSize(0.392, 2.128, 0.391)

SIZES: dict[str, ModelSize] = {
    "pocket": ModelSize(0.0083, 0.0034, 0.0034, 0.0031),  # its safetensors; swap: at most all of it
    "instruct-pix2pix": ModelSize(0.943, 0.123, 0.045, 0.270),  # SD 1.5 with 8 channels; CLIP-L
    "sdxl-instruct-pix2pix": ModelSize(2.651, 0.818, 0.085, 2.233),  # SDXL with 8; two CLIPs
    "sd15-canny": ModelSize(1.304, 0.123, 0.045, 0.400),  # SD 1.5, its ControlNet 0.361; CLIP-L
    # 11.901 and the VAE; T5-v1.1-XXL, CLIP-L
    "flux-kontext": ModelSize(11.985, 4.885, 0.325, 11.898),
    "flux2-klein": _KLEIN,
    "flux2-klein-base": _KLEIN,
    "flux2-klein-9b": _KLEIN_9B,
    "flux2-klein-base-9b": _KLEIN_9B,
    # 32.223 and the VAE; 31 of the 40 layers of Mistral Small 3 (24B)
    "flux2-dev": ModelSize(32.307, 17.900, 1.227, 32.223),
    "qwen-image-edit": _QWEN,
    "qwen-image-edit-2509": _QWEN,
    "qwen-image-edit-2511": _QWEN,
    "dreamlite": _DREAMLITE,
    "dreamlite-mobile": _DREAMLITE,
}
