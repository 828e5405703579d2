"""The schedulers of the tiny folders, with the switches of the real ones."""

from __future__ import annotations

from typing import Any

from diffusers import (
    EDMEulerScheduler,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    PNDMScheduler,
)

# Stable Diffusion's betas; the same in SD 1.5 and SDXL.
BETAS = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}


def flow(**settings: Any) -> FlowMatchEulerDiscreteScheduler:
    """FLUX.1's flow matching: its shift depends on the canvas (`use_dynamic_shifting`)."""
    flux = {
        "use_dynamic_shifting": True,
        "shift": 3.0,
        "base_shift": 0.5,
        "max_shift": 1.15,
        "base_image_seq_len": 256,
        "max_image_seq_len": 4096,
    }
    return FlowMatchEulerDiscreteScheduler(**{**flux, **settings})


def pndm() -> PNDMScheduler:
    """SD 1.5's sampler: leading timesteps with offset 1. Its configuration also says what PNDM does
    not read, and DDIM does: that nothing is clipped."""
    made = PNDMScheduler(**BETAS, skip_prk_steps=True, steps_offset=1, set_alpha_to_one=False)
    made.register_to_config(clip_sample=False)
    return made


def euler() -> EulerDiscreteScheduler:
    """SDXL's sampler."""
    return EulerDiscreteScheduler(**BETAS, steps_offset=1, timestep_spacing="leading")


def edm() -> EDMEulerScheduler:
    """CosXL's: continuous levels from 0.002 to 120, the time their logarithm."""
    return EDMEulerScheduler(
        sigma_min=0.002,
        sigma_max=120.0,
        sigma_data=1.0,
        sigma_schedule="exponential",
        prediction_type="v_prediction",
    )
