"""A picture by bands of rows, so that what is made of it takes little memory at a time."""

from __future__ import annotations

from collections.abc import Iterator

BAND_PIXELS = 2**20  # that are converted at a time


def bands(
    size: tuple[int, int], most_pixels: int = BAND_PIXELS
) -> Iterator[tuple[int, int, int, int]]:
    """Yield boxes (left, top, right, bottom) of whole rows of a picture, from the top.

    `size`: (width, height) in px. A band has a row at least, and else no more than `most_pixels`.
    """
    width, height = size
    rows = max(most_pixels // width, 1)
    for top in range(0, height, rows):
        yield 0, top, width, min(top + rows, height)
