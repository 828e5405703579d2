"""A picture as its decoder gave it, an array or Pillow's own image, by rows."""

from __future__ import annotations

import cv2
import numpy as np
from PIL import Image

Picture = Image.Image | np.ndarray  # an array: (H, W, 3) uint8 RGB, C-contiguous


def size_of(picture: Picture) -> tuple[int, int]:
    """Return (width, height) in px."""
    if isinstance(picture, Image.Image):
        return picture.size
    height, width = picture.shape[:2]
    return width, height


def mode_of(picture: Picture) -> str:
    """Return the mode, as Pillow names it."""
    return picture.mode if isinstance(picture, Image.Image) else "RGB"


def image_of(picture: Picture) -> Image.Image:
    """Return Pillow's image; of an array, a copy."""
    return picture if isinstance(picture, Image.Image) else Image.fromarray(picture)


# Pillow has four bytes for a pixel of RGB. It gives and takes them as they are in a third of the
# time that it needs to pack three; OpenCV packs them in a tenth.
def rows_of(picture: Picture, top: int, bottom: int) -> np.ndarray:
    """Return rows from `top` to before `bottom`, (n, W, channels) uint8; of an array, a view."""
    if not isinstance(picture, Image.Image):
        return picture[top:bottom]
    rows = picture.crop((0, top, picture.width, bottom))
    if rows.mode != "RGB":
        return np.asarray(rows).reshape(rows.height, rows.width, -1)
    pixels = np.frombuffer(rows.tobytes("raw", "RGBX"), np.uint8)
    return cv2.cvtColor(pixels.reshape(rows.height, rows.width, 4), cv2.COLOR_RGBA2RGB)


def put_rows(picture: Picture, top: int, pixels: np.ndarray) -> None:
    """Write rows of RGB, (n, W, 3) uint8, from `top` on."""
    if not isinstance(picture, Image.Image):
        picture[top : top + len(pixels)] = pixels
        return
    padded = cv2.cvtColor(pixels, cv2.COLOR_RGB2RGBA)
    size = pixels.shape[1], pixels.shape[0]
    picture.paste(Image.frombytes("RGB", size, padded.data, "raw", "RGBX"), (0, top))
