"""Alpha: what a source had is given back to its edit, which was made over white."""

from __future__ import annotations

import numpy as np
from PIL import Image

from engine.bands import bands
from engine.geometry import Geometry


def alpha_at_output(alpha: Image.Image, geometry: Geometry) -> Image.Image:
    """Bring the alpha of a source (mode L, as `decode` gives it) to the size of the edit."""
    if alpha.size == geometry.output and geometry.box == (0, 0, *alpha.size):
        return alpha
    return alpha.resize(geometry.output, Image.Resampling.LANCZOS, box=geometry.box)


def with_alpha(image: Image.Image, alpha: Image.Image) -> Image.Image:
    """Take out of an RGB image over white what shone through; the image itself becomes RGBA.

    Laid over white again it is the same picture (by 1 of 255), and over another colour it has no
    fringe of white. `alpha`: mode L, of the same size.
    """
    image.putalpha(alpha)
    for box in bands(image.size):
        band = np.asarray(image.crop(box))
        opacity = band[..., 3:]
        missing = (255 - band[..., :3]).astype(np.uint32) * 255  # of white's light
        share = np.maximum(opacity, 1)
        colours = 255 - np.minimum((missing + share // 2) // share, 255)
        layer = np.concatenate([colours.astype(np.uint8), opacity], axis=-1)
        image.paste(Image.fromarray(layer), box)
    return image
