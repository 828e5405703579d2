"""Kinds of edit by array arithmetic: (H, W, 3) float32 in 0..1 -> the same shape and range.

Every function takes a strength near 1 (what a phrasing means without "very" or "slightly").
Lengths are in pixels of the model's size, except those that are shares of the picture.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from training.crops import Colours

Plane = NDArray[np.float32]  # (H, W, 1)

LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)  # ITU-R BT.601
PIXEL_BLOCK_PX = 8
BLUR_SIGMA_PX = 3.0
FRAME_SHARE = 1 / 10  # of the shorter side

COLOURS: dict[str, tuple[float, float, float]] = {
    "red": (0.95, 0.12, 0.12),
    "orange": (1.0, 0.55, 0.08),
    "yellow": (1.0, 0.93, 0.15),
    "green": (0.15, 0.80, 0.22),
    "blue": (0.12, 0.35, 1.0),
    "purple": (0.58, 0.20, 0.92),
    "pink": (1.0, 0.50, 0.78),
    "white": (1.0, 1.0, 1.0),
    "black": (0.0, 0.0, 0.0),
}
HEAT = np.array(
    [[0, 0, 0.15], [0.25, 0, 0.55], [0.75, 0.05, 0.45], [1, 0.4, 0.1], [1, 0.85, 0.2], [1, 1, 0.9]],
    dtype=np.float32,
)  # dark to bright, evenly spaced


def rgb(*values: float) -> Colours:
    """A colour as (3,) float32."""
    return np.array(values, dtype=np.float32)


def luma(image: Colours) -> Plane:
    """(H, W, 1) brightness."""
    return (image @ LUMA)[..., None]


def mix(first: Colours, second: Colours, share: Plane | float) -> Colours:
    """`first` where share is 0, `second` where it is 1."""
    return np.asarray(first + (second - first) * share, dtype=np.float32)


def smoothstep(low: float, high: float, value: Plane) -> Plane:
    """0 below `low`, 1 above `high`, smooth between."""
    t = np.clip((value - low) / (high - low), 0.0, 1.0)
    return np.asarray(t * t * (3 - 2 * t), dtype=np.float32)


def soften(image: Colours, sigma_px: float) -> Colours:
    """Gaussian blur of the two spatial axes."""
    blurred = ndimage.gaussian_filter(image, (sigma_px, sigma_px, 0), mode="nearest", truncate=3.0)
    return np.asarray(blurred, dtype=np.float32)


def height_share(image: Colours) -> Plane:
    """1 in the top row, 0 in the bottom row."""
    return np.linspace(1, 0, image.shape[0], dtype=np.float32)[:, None, None]


def centre_distance(image: Colours) -> Plane:
    """0 in the centre, 1 at the middle of a side, 1.41 in a corner."""
    down = np.linspace(-1, 1, image.shape[0], dtype=np.float32)[:, None, None]
    across = np.linspace(-1, 1, image.shape[1], dtype=np.float32)[None, :, None]
    return np.sqrt(down**2 + across**2)


def black_and_white(image: Colours, strength: float = 1.0) -> Colours:
    """Brightness alone."""
    return np.repeat(luma(image), 3, axis=-1)


def sepia(image: Colours, strength: float = 1.0) -> Colours:
    """Brown brightness."""
    return (luma(image) * 0.9 + 0.05) * rgb(1.12, 0.88, 0.60)


def brighter(image: Colours, strength: float = 1.0) -> Colours:
    """Shadows lifted, everything lighter."""
    return np.clip(image, 0, 1) ** (1 / (1 + 0.9 * strength)) * 1.1 + 0.06 * strength


def darker(image: Colours, strength: float = 1.0) -> Colours:
    """Everything at under half its brightness."""
    return image ** np.float32(1.1) * (1 - 0.55 * strength)


def contrast(image: Colours, strength: float = 1.0) -> Colours:
    """Steeper around the middle."""
    return (image - 0.5) * (1 + 1.2 * strength) + 0.5


def vivid(image: Colours, strength: float = 1.0) -> Colours:
    """Colours pushed away from grey."""
    return mix(luma(image), image, 1 + 1.5 * strength)


def faded(image: Colours, strength: float = 1.0) -> Colours:
    """Washed out: low contrast, half the colour, lifted blacks."""
    return mix(image, mix(luma(image), image, 0.45) * 0.42 + 0.44, min(1.0, strength))


def warm(image: Colours, strength: float = 1.0) -> Colours:
    """Light of a low colour temperature."""
    return image * (1 + strength * rgb(0.2, 0.0, -0.36)) + strength * rgb(0.05, 0.01, -0.02)


def cool(image: Colours, strength: float = 1.0) -> Colours:
    """Light of a high colour temperature."""
    return image * (1 + strength * rgb(-0.34, -0.02, 0.2)) + strength * rgb(-0.02, 0.0, 0.08)


def night(image: Colours, strength: float = 1.0) -> Colours:
    """Dark, half the colour, blue."""
    return mix(image, luma(image), 0.55) * rgb(0.22, 0.29, 0.56) / max(0.5, strength)


def sunset(image: Colours, strength: float = 1.0) -> Colours:
    """Red-orange light, darker, with a glow that grows towards the top."""
    glow = height_share(image) * rgb(0.36, 0.10, 0.10)
    return image * rgb(0.92, 0.55, 0.42) + glow * strength


def fog(image: Colours, strength: float = 1.0) -> Colours:
    """A pale veil, thicker towards the top."""
    veil = np.clip((0.48 + 0.34 * height_share(image)) * strength, 0, 0.95)
    return mix(mix(image, luma(image), 0.4), rgb(0.83, 0.85, 0.87), veil)


def winter(image: Colours, strength: float = 1.0) -> Colours:
    """Snow on whatever is not dark, little colour, cold shadows."""
    bright = luma(image)
    cold = mix(image, bright, 0.8) * rgb(0.88, 1.0, 1.16) + 0.04
    return mix(cold, rgb(0.93, 0.97, 1.0), smoothstep(0.22, 0.6, bright) * 0.8 * strength)


def autumn(image: Colours, strength: float = 1.0) -> Colours:
    """Greens turned orange and rust."""
    red, green, blue = image[..., 0], image[..., 1], image[..., 2]
    turned = np.stack(
        [np.maximum(red, green) * 1.08, 0.58 * green + 0.10 * red, 0.42 * blue], axis=-1
    )
    return mix(image, turned, min(1.0, strength))


def tint(image: Colours, strength: float, colour: str) -> Colours:
    """The whole picture in one colour."""
    bright = luma(image)
    return mix(image, rgb(*COLOURS[colour]) * (0.18 + 0.92 * bright) + 0.06 * bright, 0.85)


def pencil_lines(image: Colours, strength: float = 1.0) -> Plane:
    """(H, W, 1): white paper, dark where brightness falls off sharply."""
    bright = luma(image)
    ratio = bright / (soften(bright, 2.5) + 0.02)
    return np.clip(ratio, 0, 1) ** np.float32(3.0 * strength)


def pencil_sketch(image: Colours, strength: float = 1.0) -> Colours:
    """Grey lines on white paper."""
    return np.repeat(pencil_lines(image, strength), 3, axis=-1)


def blueprint(image: Colours, strength: float = 1.0) -> Colours:
    """White lines on blue paper."""
    return mix(rgb(1, 1, 1), rgb(0.06, 0.20, 0.62), pencil_lines(image, strength))


def poster(image: Colours, strength: float = 1.0) -> Colours:
    """Three levels a channel, strong colours."""
    bold = np.clip(mix(luma(image), soften(image, 0.7), 1.5), 0, 0.999)
    return np.floor(bold * 3).astype(np.float32) / np.float32(2)


def pixel_art(image: Colours, strength: float = 1.0) -> Colours:
    """Blocks of 8 x 8 pixels in one colour each."""
    height, width = image.shape[:2]
    block = PIXEL_BLOCK_PX
    rows, columns = height // block, width // block
    cut = image[: rows * block, : columns * block]
    small = cut.reshape(rows, block, columns, block, 3).mean(axis=(1, 3))
    large = small.repeat(block, axis=0).repeat(block, axis=1)
    spare = ((0, height - rows * block), (0, width - columns * block), (0, 0))
    return np.pad(large, spare, mode="edge")


def blur(image: Colours, strength: float = 1.0) -> Colours:
    """Out of focus."""
    return soften(image, BLUR_SIGMA_PX * strength)


def negative(image: Colours, strength: float = 1.0) -> Colours:
    """Every channel turned round."""
    return 1 - image


def neon(image: Colours, strength: float = 1.0) -> Colours:
    """Glowing outlines in the picture's colours, on black."""
    smooth = soften(image, 0.8)
    edges = np.hypot(ndimage.sobel(smooth, axis=0), ndimage.sobel(smooth, axis=1))
    return np.asarray(edges * 0.6 * strength, dtype=np.float32)


def thermal(image: Colours, strength: float = 1.0) -> Colours:
    """Brightness as heat: dark blue, purple, red, orange, yellow, white."""
    place = np.clip(luma(image)[..., 0], 0, 1) * (len(HEAT) - 1)
    steps = np.arange(len(HEAT))
    return np.stack([np.interp(place, steps, HEAT[:, c]) for c in range(3)], axis=-1)
