"""Guidance: which branches an edit needs, and with which weight each counts. No torch.

A branch is one row of a model call. Four kinds of models guide in four ways:

    two_scale  Brooks et al. 2023, equation 3: u the prediction without instruction and image, c_I
               with the image, c_TI with both, s_T and s_I the scales:
               u + s_T (c_TI - c_I) + s_I (c_I - u) = s_T c_TI + (s_I - s_T) c_I + (1 - s_I) u
    cfg        Ho and Salimans 2022 with `guidance_scale` s: s c + (1 - s) n, where n is the
               prediction under the negative prompt
    true_cfg   the same with `true_cfg_scale`, and only where there is a negative prompt
    embedded   one branch; a scale, where the model has one, is an input of the model

A branch whose weight is 0 is not computed. The formulae hold at every scale; diffusers drops
guidance silently where a scale is at most 1 (s_I: below 1).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal

from engine.options import ResolvedOptions

if TYPE_CHECKING:
    import torch

GuidanceKind = Literal["two_scale", "cfg", "true_cfg", "embedded"]

# Every branch of a kind, the one with the instruction first.
BRANCHES: Mapping[GuidanceKind, tuple[str, ...]] = {
    "two_scale": ("text_image", "image", "none"),
    "cfg": ("text", "negative"),
    "true_cfg": ("text", "negative"),
    "embedded": ("text",),
}


def branches(kind: GuidanceKind, options: ResolvedOptions) -> dict[str, float]:
    """Name the branches that an edit needs, in the order of `BRANCHES`, each with its weight.

    The weights add up to 1. Raises `InternalError` where a scale of the kind is not resolved.
    """
    weights = dict(zip(BRANCHES[kind], _weights(kind, options), strict=True))
    return {branch: weight for branch, weight in weights.items() if weight != 0.0}


def _weights(kind: GuidanceKind, options: ResolvedOptions) -> tuple[float, ...]:
    if kind == "embedded":
        return (1.0,)
    if kind == "two_scale":
        text, image = options.scale("guidance_scale"), options.scale("image_guidance_scale")
        return text, image - text, 1.0 - image
    if kind == "cfg":
        scale = options.scale("guidance_scale")
    else:
        guided = options.negative_prompt is not None
        scale = options.scale("true_cfg_scale") if guided else 1.0
    return scale, 1.0 - scale


def weigh(predicted: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Add up the branches of each sample, weighted: the `combine` of linear guidance.

    predicted (B, R, C, h, w), weights (B, R), both float32 -> (B, C, h, w).
    """
    factors = weights[:, :, None, None, None]
    output = factors[:, 0] * predicted[:, 0]
    for branch in range(1, predicted.shape[1]):
        output = output + factors[:, branch] * predicted[:, branch]
    return output
