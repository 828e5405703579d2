"""What leaves: the pictures of an edit at their final size, made of what the model made."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from engine.alpha import alpha_at_output, with_alpha
from engine.edit import EditResult, Guided, Repaired
from engine.errors import InternalError
from engine.finishing import Canvases, Finished, Wanted, finish, source_at_output
from engine.formats import OPTIONAL_FORMATS
from engine.geometry import cut_padding, from_canvas, to_canvas
from engine.images import decode
from engine.masks import decode_mask, mask_to_output
from engine.options import Measures
from engine.picture import Picture, image_of, size_of
from engine.quality.measures import measure
from engine.quality.repair import repair
from engine.recipe import command_of, with_scales, with_translation
from engine.sources import Finishing


def finished_images(result: EditResult, finishing: Finishing) -> Iterator[Finished]:
    """Yield the pictures of an edit, one at a time: each takes 4 bytes a pixel of the output.

    Every door's results come from here, in a process that is not the model's. A source of which
    more than its canvas is kept is decoded again, from the file that was edited. What the model
    spoiled is repaired on the canvas, before anything of the source is given back.
    """
    source = alpha = None
    if finishing.source is not None:
        is_clear = finishing.background == "transparent"
        decoded = decode(finishing.source, OPTIONAL_FORMATS, is_clear)  # it was accepted before
        source, alpha = decoded.picture, decoded.alpha
        del decoded
    if alpha is not None:
        alpha = alpha_at_output(alpha, finishing.geometry)
    words = finishing.edit_words
    if result.instruction_used is not None:
        words = with_translation(words, result.instruction_used, finishing.template)
    if result.guided is not None:
        words = with_scales(words, result.guided)
    pictures = _pictures(result, finishing, source)
    del source  # of 50 megapixels there is not room for another one
    for made, seed in zip(pictures, result.seeds, strict=True):
        command = command_of(words, result.engine_words, seed)
        picture = made.picture if alpha is None else with_alpha(made.image, alpha)
        yield replace(made, picture=picture, command=command)


def _pictures(
    result: EditResult, finishing: Finishing, whole: Picture | None
) -> Iterator[Finished]:
    """The pictures over white; `whole`: the source, where its file was kept."""
    if not finishing.compares_source:
        del whole
        for edited in result.images:
            yield Finished(from_canvas(edited, finishing.geometry))
        return
    if result.reconstructed is None:
        raise InternalError("the model returned no reconstruction of the source")
    geometry, reconstructed = finishing.geometry, result.reconstructed
    canvas, source, mask = _kept(finishing, whole)
    del whole
    wanted = Wanted(
        finishing.detail == "source", finishing.preserve == "auto", mask, finishing.return_mask
    )
    keeps_pixels = wanted.detail or wanted.preserve or mask is not None
    unedited = cut_padding(canvas if keeps_pixels else reconstructed, geometry)

    def finished(edited: np.ndarray, into: Picture | None = None) -> Finished:
        mended, repaired = _repaired(edited, reconstructed, finishing)
        made = finish(Canvases(canvas, reconstructed, mended), source, geometry, wanted, into)
        judged = _judged(made, unedited, repaired, finishing.measures)
        return _told(judged, result.guided)

    *others, last = result.images
    yield from map(finished, others)
    yield finished(last, into=source)


def _repaired(
    edited: np.ndarray, reconstructed: np.ndarray, finishing: Finishing
) -> tuple[np.ndarray, tuple[Repaired, ...]]:
    """Repair an edited canvas, its padding left alone, and say what was done."""
    before, after = (cut_padding(one, finishing.geometry) for one in (reconstructed, edited))
    mended, repaired = repair(before, after, finishing.repair)
    if repaired:
        edited = edited.copy()
        cut_padding(edited, finishing.geometry)[:] = mended
    return edited, repaired


def _judged(
    made: Finished, unedited: np.ndarray, repaired: tuple[Repaired, ...], measures: Measures
) -> Finished:
    """Say in a picture's report what was repaired, and measure it where that is wanted."""
    measured, codes = None, [f"result_{done}" for done in repaired]
    if measures != "none":
        measured, found = measure(made.image, unedited, measures)
        codes += found
    report = made.report and replace(made.report, measured=measured, repaired=repaired)
    return replace(made, report=report, warnings=(*made.warnings, *codes))


def _told(made: Finished, guided: Guided | None) -> Finished:
    """Say in a picture's report which scales were chosen."""
    report = made.report and replace(made.report, guided=guided)
    return replace(made, report=report)


def _kept(
    finishing: Finishing, whole: Picture | None
) -> tuple[np.ndarray, Picture, np.ndarray | None]:
    """The source on the canvas and at the result's size, and the mask at that size."""
    geometry, canvas, mask = finishing.geometry, finishing.canvas, None
    if whole is None:
        if canvas is None:
            raise InternalError("nothing was kept of the source")
        return canvas, from_canvas(canvas, geometry), None
    if canvas is None:
        canvas = to_canvas(image_of(whole), geometry)
    if finishing.mask is not None:
        mask = mask_to_output(decode_mask(finishing.mask, size_of(whole)), geometry)
    return canvas, source_at_output(whole, canvas, geometry), mask
