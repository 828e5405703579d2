"""The branch algebra of two-scale classifier-free guidance.

With u the prediction without instruction and image, c_I with the image alone, c_TI with both,
s_T and s_I the scales (Brooks et al. 2023, equation 3):

    eps = u + s_T (c_TI - c_I) + s_I (c_I - u) = s_T c_TI + (s_I - s_T) c_I + (1 - s_I) u

A branch whose weight is 0 is not computed. The formula holds at every scale; diffusers drops
guidance silently where s_T <= 1 or s_I < 1.
"""

from __future__ import annotations

from typing import Literal

Branch = Literal["text_image", "image", "none"]


def branch_weights(guidance_scale: float, image_guidance_scale: float) -> dict[Branch, float]:
    """The branches that an edit needs, each with its weight; the weights add up to 1."""
    weights: dict[Branch, float] = {
        "text_image": guidance_scale,
        "image": image_guidance_scale - guidance_scale,
        "none": 1.0 - image_guidance_scale,
    }
    return {branch: weight for branch, weight in weights.items() if weight != 0.0}
