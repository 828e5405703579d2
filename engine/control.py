"""The control image of an edit: what a ControlNet is shown beside the text."""

from __future__ import annotations

import cv2
import numpy as np
from PIL import Image

from engine.errors import OptionInvalid
from engine.geometry import Geometry, to_canvas
from engine.options import ResolvedOptions
from engine.spec import CANNY_THRESHOLDS, ModelSpec


def find_edges(pixels: np.ndarray, options: ResolvedOptions) -> np.ndarray:
    """Draw the edges of a canvas by Canny's method (1986), white on black.

    `pixels` (H, W, 3) uint8 RGB; an edge begins where the slope, |dx| + |dy| of Sobel's 3 x 3
    filter, is above the high threshold of the options, and ends where it is below the low one.
    Returns (H, W, 3) uint8 of 0 and 255.
    """
    low, high = (options.scale(name) for name in CANNY_THRESHOLDS)
    return np.repeat(cv2.Canny(pixels, low, high)[..., None], 3, axis=2)


def given_control(
    image: Image.Image,
    source: tuple[int, int],
    geometry: Geometry,
    options: ResolvedOptions,
    spec: ModelSpec,
) -> np.ndarray:
    """Bring a control image to the canvas as its source was: (H, W, 3) uint8 RGB.

    `source`: (width, height) in px of the source, as it stands upright. Raises `OptionInvalid` for
    another size, and for thresholds beside it, which would change nothing.
    """
    if image.size != source:
        found, wanted = (f"{width}x{height} px" for width, height in (image.size, source))
        raise OptionInvalid(
            f"image: the second is the control image, and it is {found} and the first {wanted}, "
            "turned upright: both must have the same size",
            param="image",
        )
    for name in CANNY_THRESHOLDS:
        if getattr(options, name) != spec.defaults[name]:
            raise OptionInvalid(
                f"{name} has no effect beside a control image, whose edges are drawn already: "
                "leave one of the two out",
                param=name,
            )
    return to_canvas(image, geometry)
