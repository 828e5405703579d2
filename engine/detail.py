"""The detail of the source that canvas and autoencoder lost, given back to the edited picture.

What the model did is fitted in every small window of the canvas as an affine function of colour: a
guided filter (He, Sun and Tang, ECCV 2010, equations 14 to 16). Not the edited picture is enlarged,
then, but the function (He and Sun, "Fast guided filter", 2015), and it is applied to the source at
its own size. The guide is the canvas after the autoencoder alone: what that lost is no edit.
Where an edit takes structure away the slope is small, and nothing is given back.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

RADIUS_PX = 3  # of a window, on the canvas: of 2, 3, 4 and 5 none is better by 0.1 dB
RIDGE = 1e-3 * 255**2  # of a colour's variance: windows flatter than 8 of 255 have little slope
# The share of the edited variance that a window's map must explain to count, and to count in full:
# the levels of a poster are no such map, and the source's detail would blur them.
EXPLAINED = 0.7, 0.9
NOISE = 3 * 6**2  # of that variance, the model's own: 6 levels in each channel
AHEAD = 4  # rows of the canvas that are widened together, in 0.6 of the time of each alone


@dataclass(frozen=True, slots=True)
class LocalMap:
    """What the edit does to colours, at each pixel of a canvas of (h, w).

    `slope`: (3, 3, h, w) float32, [output channel, input channel]; `offset`: (3, h, w) float32 in
    levels of 0..255. The edited canvas is `slope` times the guide plus `offset`, exactly.
    """

    slope: np.ndarray
    offset: np.ndarray


def fit_local_map(guide: np.ndarray, edited: np.ndarray) -> LocalMap:
    """Fit the edit as an affine function of colour in windows of 7 x 7 px.

    `guide`: the canvas that was not edited, after the autoencoder; `edited`: the canvas that was.
    Both (h, w, 3) uint8.
    """
    before, after = planes_of(guide), planes_of(edited)
    mean_before, mean_after = box_mean(before), box_mean(after)
    products = box_mean(before[:, None] * before) - mean_before[:, None] * mean_before
    mixed = box_mean(before[:, None] * after) - mean_before[:, None] * mean_after
    inverse = _inverse(products + RIDGE * np.eye(3, dtype=np.float32)[..., None, None])
    slope = np.einsum("ijhw,johw->oihw", inverse, mixed)
    variance = (box_mean(after * after) - mean_after * mean_after).sum(axis=0)
    explained = np.maximum(np.einsum("oihw,iohw->hw", slope, mixed), 1)
    share = explained / np.maximum(variance - NOISE, explained)
    least, enough = EXPLAINED
    slope = box_mean(slope * np.clip((share - least) / (enough - least), 0, 1))
    return LocalMap(slope, after - np.einsum("oihw,ihw->ohw", slope, before))


def planes_of(pixels: np.ndarray) -> np.ndarray:
    """Turn (h, w, 3) uint8 into (3, h, w) float32, in levels of 0..255."""
    return np.array(cv2.split(pixels), np.float32)


def pixels_of(planes: np.ndarray) -> np.ndarray:
    """Turn (3, h, w) float32 levels into (h, w, 3) uint8, rounded and within 0..255."""
    flat = planes.reshape(-1, planes.shape[-1])
    rounded = cv2.addWeighted(flat, 1, flat, 0, 0, dtype=cv2.CV_8U)
    return cv2.merge(list(rounded.reshape(planes.shape)))


def box_mean(planes: np.ndarray, radius_px: int = RADIUS_PX) -> np.ndarray:
    """Average (..., h, w) float32 over windows; beyond the border the border's pixels repeat."""
    side = 2 * radius_px + 1
    flat = planes.reshape(-1, *planes.shape[-2:])
    means = np.empty(flat.shape, np.float32)
    for plane, mean in zip(flat, means, strict=True):
        cv2.blur(plane, (side, side), mean, borderType=cv2.BORDER_REPLICATE)
    return means.reshape(planes.shape)


def _inverse(matrices: np.ndarray) -> np.ndarray:
    """Invert symmetric (3, 3, h, w) matrices by their cofactors: 40 times as fast as LAPACK."""
    (a, b, c), (_, d, e), (_, _, f) = matrices
    first, second, third = d * f - e * e, c * e - b * f, b * e - c * d
    fourth, fifth, sixth = a * f - c * c, b * c - a * e, a * d - b * b
    cofactors = [first, second, third, second, fourth, fifth, third, fifth, sixth]
    return np.stack(cofactors).reshape(matrices.shape) / (a * first + b * second + c * third)


class Enlargement:
    """Planes of the canvas at a picture's size, linearly interpolated, a band of rows at a time.

    A row depends on its place alone, so the height of the bands changes no bit. Where the picture
    is smaller than the canvas, its pixels are averages.
    """

    def __init__(self, planes: np.ndarray, size: tuple[int, int]) -> None:
        """`planes`: (..., h, w) float32; `size`: (width, height) px of the picture."""
        if size[0] < planes.shape[-1] or size[1] < planes.shape[-2]:
            planes = _shrunk(planes, size)
        self._shape = planes.shape[:-2]
        self._lines = np.stack(list(planes.reshape(-1, *planes.shape[-2:])), axis=1)  # (h, ..., w)
        self._width = size[0]
        self._places = _neighbours(planes.shape[-2], size[1])
        self._widened: dict[int, np.ndarray] = {}  # by row of the canvas: some, from the last one

    def rows(self, top: int, bottom: int) -> np.ndarray:
        """(..., bottom - top, width) float32."""
        found = np.empty((*self._shape, bottom - top, self._width), np.float32)
        by_row = np.moveaxis(found.reshape(-1, bottom - top, self._width), 1, 0)
        between = -1, -1
        for row, (upper, lower, down) in zip(by_row, self._places[top:bottom], strict=True):
            if (upper, lower) != between:
                between = upper, lower
                first, second = self._widen(upper), self._widen(lower)
            cv2.addWeighted(first, 1 - down, second, down, 0, row)
        return found

    def mapped(self, colours: np.ndarray, top: int) -> np.ndarray:
        """Map (3, n, width) float32 levels, the picture's rows from `top`; returns as many.

        The planes are maps, (3, 4, h, w): slope and offset.
        """
        maps = self.rows(top, top + colours.shape[1])
        found = maps[:, 3]
        for slopes, out in zip(maps, found, strict=True):
            for slope, colour in zip(slopes[:3], colours, strict=True):
                cv2.accumulateProduct(slope, colour, out)
        return found

    def _widen(self, row: int) -> np.ndarray:
        """(planes, width): a row of the canvas at the picture's width."""
        if row not in self._widened:
            lines = self._lines[row : row + AHEAD]
            flat = lines.reshape(-1, lines.shape[-1])
            wide = cv2.resize(flat, (self._width, len(flat)), interpolation=cv2.INTER_LINEAR)
            last = {r: w for r, w in self._widened.items() if r == row - 1}
            self._widened = last | dict(enumerate(wide.reshape(*lines.shape[:2], -1), row))
        return self._widened[row]


def _shrunk(planes: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    flat = planes.reshape(-1, *planes.shape[-2:])
    smaller = [cv2.resize(plane, size, interpolation=cv2.INTER_AREA) for plane in flat]
    return np.stack(smaller).reshape(*planes.shape[:-2], size[1], size[0])


def _neighbours(count: int, wanted: int) -> list[tuple[int, int, float]]:
    """The two of `count` pixels around each of `wanted` ones, and its way from first to second."""
    place = (np.arange(wanted) + 0.5) * (count / wanted) - 0.5  # centres of pixels
    place = np.clip(place, 0, count - 1)
    first = np.floor(place).astype(int)
    second = np.minimum(first + 1, count - 1)
    return list(zip(first.tolist(), second.tolist(), (place - first).tolist(), strict=True))
