"""Photographs spoiled by known amounts, as a camera spoils them; results, as a model does."""

from __future__ import annotations

import io
from collections.abc import Callable
from functools import partial

import cv2
import numpy as np
from PIL import Image

from engine.quality.colour import from_lab, to_lab

Pixels = np.ndarray  # (H, W, 3) uint8
Spoil = Callable[[Pixels], Pixels]

JPEG_QUALITY = 85  # a spoiled photograph is saved as its camera would


def blur(pixels: Pixels, share: float) -> Pixels:
    """Blur by a Gaussian whose sigma is a share of the longest side."""
    return cv2.GaussianBlur(pixels, (0, 0), share * max(pixels.shape))


def defocus(pixels: Pixels, share: float) -> Pixels:
    """Blur by a disc whose radius is a share of the longest side."""
    side = 2 * round(share * max(pixels.shape)) + 1
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side)).astype(np.float32)
    return cv2.filter2D(pixels, -1, disc / disc.sum())


def shake(pixels: Pixels, share: float) -> Pixels:
    """Blur along a line of 30 degrees, as long as a share of the longest side."""
    length = share * max(pixels.shape)
    side = 2 * int(np.ceil(length / 2)) + 1
    line = np.zeros((side, side), np.float32)
    middle, step = side // 2, length / 2 * np.array([np.cos(np.pi / 6), np.sin(np.pi / 6)])
    start, end = (tuple(int(v) for v in np.round(middle + k * step)) for k in (-1, 1))
    cv2.line(line, start, end, 1.0, 1, cv2.LINE_AA)
    return cv2.filter2D(pixels, -1, line / line.sum())


def tinge(pixels: Pixels, a: float, b: float) -> Pixels:
    """Shift a* and b* of CIE L*a*b* everywhere."""
    lab = to_lab(pixels)
    lab[..., 1:] += np.array((a, b), np.float32)
    return from_lab(lab)


def expose(pixels: Pixels, stops: float) -> Pixels:
    """Take the picture anew with so many stops more of light, and a sensor's noise."""
    noise = np.random.default_rng(0).normal(0, 1e-3, pixels.shape)
    return _to_srgb(_to_light(pixels) * 2**stops + noise)


def backlight(pixels: Pixels, stops: float) -> Pixels:
    """Put a subject, the middle and below it, into the shade by so many stops, and the rest into
    the light by one."""
    height, width = pixels.shape[:2]
    down, across = np.ogrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    far = np.hypot(across / 0.7, np.maximum(-down, 0) / 0.7)  # 1 at the subject's outline
    shade = 1 / (1 + np.exp((far - 1) * 20))
    return _to_srgb(_to_light(pixels) * 2.0 ** (1 - (stops + 1) * shade[..., None]))


def saved(pixels: Pixels) -> Image.Image:
    """Save as JPEG, and open."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=JPEG_QUALITY)
    return Image.open(buffer).convert("RGB")


SPOILS: dict[str, list[tuple[str, Spoil]]] = {
    "source_blurry": [
        ("blur, sigma 1.5% of the longest side", partial(blur, share=0.015)),
        ("blur, 2.5%", partial(blur, share=0.025)),
        ("out of focus, radius 2%", partial(defocus, share=0.02)),
        ("out of focus, 4%", partial(defocus, share=0.04)),
    ],
    "source_dark": [
        ("3 stops too dark", partial(expose, stops=-3)),
        ("4 stops", partial(expose, stops=-4)),
    ],
    "source_backlit": [
        ("subject 3 stops darker, the rest 1 lighter", partial(backlight, stops=3)),
        ("subject 4 stops darker", partial(backlight, stops=4)),
    ],
}

# What is not found: along one line a shake leaves the edges that lie in it as sharp as they were.
SHAKEN: tuple[str, Spoil] = ("shaken, 6%", partial(shake, share=0.06))


def _to_light(pixels: Pixels) -> np.ndarray:
    """Undo sRGB's curve: (H, W, 3) uint8 -> float64 in 0..1, linear (IEC 61966-2-1)."""
    values = pixels / 255
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def _to_srgb(light: np.ndarray) -> Pixels:
    light = np.clip(light, 0, 1)
    values = np.where(light <= 0.0031308, light * 12.92, 1.055 * light ** (1 / 2.4) - 0.055)
    return np.round(values * 255).astype(np.uint8)
