"""What happens to an edited canvas before it is encoded: size, detail, preserve, mask.

A pure function of arrays, the same behind every door and for every family. It works in bands of
rows, so that beside a source of 50 megapixels and the result it needs little memory.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image

from engine.bands import bands
from engine.detail import Enlargement, LocalMap, fit_local_map, pixels_of, planes_of
from engine.edit import EditReport
from engine.geometry import Geometry, cut_padding, from_canvas
from engine.masks import composite
from engine.picture import Picture, image_of, put_rows, rows_of, size_of
from engine.preserve import EditMap, map_edit

BAND_PIXELS = 2**15  # 9 to 15 planes of float32: 2 MiB, what the second cache of a core holds


@dataclass(frozen=True, slots=True)
class Canvases:
    """The model's side of an edit, (h, w, 3) uint8 RGB each, with the geometry's padding."""

    source: np.ndarray  # what the model was shown
    reconstructed: np.ndarray  # that after the autoencoder alone; without one, the source again
    edited: np.ndarray  # what the model made


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is asked for beside the model's own picture."""

    detail: bool = False  # give back what canvas and autoencoder lost
    preserve: bool = False  # keep the source's bytes where the edit changed nothing
    mask: np.ndarray | None = None  # (H, W) uint8 of the output's size; 0: keep the source's bytes
    edited: bool = False  # tell which pixels were edited


@dataclass(frozen=True, slots=True)
class Finished:
    """A finished picture, and what is to be said of it."""

    picture: Picture  # of the output's size; RGB, or RGBA where its source's alpha is given back
    edited: np.ndarray | None = None  # (H, W) uint8: 255 where a pixel is the edit's, 0 where not
    report: EditReport | None = None  # None where nothing of the source was to be kept
    warnings: tuple[str, ...] = ()  # edit_is_global: `preserve` found nothing to keep
    command: str = ""  # what makes it again: see `engine.recipe`

    @property
    def image(self) -> Image.Image:
        """The picture as Pillow's image, which may be a copy."""
        return image_of(self.picture)

    @property
    def pixels(self) -> np.ndarray:
        """(H, W, 3) uint8 RGB, or 4 with alpha; it may be a copy."""
        return np.asarray(self.picture)

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) in px."""
        return size_of(self.picture)


def finish(
    canvases: Canvases,
    source: Picture,
    geometry: Geometry,
    wanted: Wanted,
    into: Picture | None = None,
) -> Finished:
    """Make the picture that was asked for out of what the model made.

    `source`: RGB of the output's size, see `source_at_output`. `into`: where the picture goes; it
    may be `source`, which is over then.
    """
    canvas = planes_of(cut_padding(canvases.source, geometry))
    guide = cut_padding(canvases.reconstructed, geometry)
    local = fit_local_map(guide, cut_padding(canvases.edited, geometry))
    found = map_edit(local, canvas)
    plain = None if wanted.detail else from_canvas(canvases.edited, geometry)
    picture = Image.new("RGB", size_of(source)) if into is None else into
    edited = _Bands(source, plain, local, found, wanted).finish(picture)
    kept = wanted.mask is not None or (wanted.preserve and not found.is_global)
    return Finished(
        picture,
        edited,
        EditReport(found.changed_share, 0.0 if kept else found.outside_change),
        ("edit_is_global",) if wanted.preserve and found.is_global else (),
    )


def source_at_output(source: Picture, canvas: np.ndarray, geometry: Geometry) -> Picture:
    """Choose what a result is compared with, byte for byte: RGB of the output's size.

    `source`: the picture itself, taken where its size is restored; `canvas`: what of it the model
    was shown.
    """
    if geometry.output == size_of(source):
        return source
    return cut_padding(canvas, geometry).copy()


class _Bands:
    """Puts a result together, a band of rows at a time."""

    def __init__(
        self,
        source: Picture,
        plain: Image.Image | None,
        local: LocalMap,
        found: EditMap,
        wanted: Wanted,
    ) -> None:
        """`plain`: the enlarged picture of the model; None where the source is mapped instead."""
        self._source, self._plain, self._found, self._wanted = source, plain, found, wanted
        self._pastes = wanted.preserve and not found.is_global
        self._judges = self._pastes or wanted.edited
        self._maps = None
        if plain is None or self._judges:
            self._maps = np.concatenate([local.slope, local.offset[:, None]], axis=1)

    def finish(self, picture: Picture) -> np.ndarray | None:
        """Write the picture; returns which pixels are edited, (H, W) uint8, where it is wanted."""
        width, height = size = size_of(picture)
        edited = np.empty((height, width), np.uint8) if self._wanted.edited else None
        maps = None if self._maps is None else Enlargement(self._maps, size)
        correction = Enlargement(self._found.correction, size) if self._judges else None
        for _, top, _, bottom in bands(size, BAND_PIXELS):
            pixels, share = self._band(top, bottom, maps, correction)
            put_rows(picture, top, pixels)
            if edited is not None and share is not None:
                edited[top:bottom] = share
        return edited

    def _band(
        self, top: int, bottom: int, maps: Enlargement | None, correction: Enlargement | None
    ) -> tuple[np.ndarray, np.ndarray | None]:
        before, share = rows_of(self._source, top, bottom), None
        if maps is not None:
            colours = planes_of(before)
            mapped = maps.mapped(colours, top)
        after = pixels_of(mapped) if self._plain is None else rows_of(self._plain, top, bottom)
        if correction is not None:
            share = self._found.share(mapped - colours + correction.rows(top, bottom))
            after = composite(before, after, share) if self._pastes else after
        if self._wanted.mask is not None:
            mask = self._wanted.mask[top:bottom]
            after = composite(before, after, mask)
            share = None if share is None else np.minimum(share, mask)
        return after, share
