"""How alike the edits of a style came out: the spread of their looks, and the outliers.

A spread is the median of the distances to the median, so that a few spoiled pictures do not hide
themselves in it. Some styles move every picture alike, a warm light; others make every picture the
same, a sketch: of shift and result, the one with the smaller spread is what the style locks, and
what an outlier is far from.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from batch_jobs.ledger.layout import published_path
from engine.options import EditOptions

OUTLIERS = 5
LEAST_IMAGES = 3  # fewer have no spread
# What is looked at, and the spread below which a difference is no outlier: half of 2.3 of L*a*b*,
# a just noticeable difference (Mahy, Van Eycken and Oosterlinck 1994); a share of the pixels.
LEAST = {"lab": 1.15, "border_lab": 1.15, "texture": 0.01}


@dataclass(frozen=True, slots=True)
class Spread:
    """Says how far the images of a style lie from the median one."""

    shift: float  # of result minus source
    result: float  # of the results alone


@dataclass(frozen=True, slots=True)
class Outlier:
    """Names an image that came out otherwise than most of its style."""

    id: str  # of its row
    path: str  # in the output folder
    by: str  # what it is farthest in
    times_spread: float  # how far that is


@dataclass(frozen=True, slots=True)
class StyleConsistency:
    """Says how alike the images of a style came out."""

    style: str
    images: int
    lab: Spread  # of the mean colour, in L*a*b*
    border_lab: Spread  # the same of the band along the sides
    texture: Spread  # of the local binary patterns, in shares of the pixels
    locked: dict[str, Any]  # options that were the same in every row
    differing: list[str]  # those that were not
    outliers: list[Outlier]  # the farthest first


def consistency(results: pa.Table) -> list[StyleConsistency]:
    """Look at each style among ledger rows, the one of most rows first."""
    ok = results.filter(pc.and_(pc.equal(results["status"], "ok"), pc.is_valid(results["style"])))
    counts = sorted(pc.value_counts(ok["style"]).to_pylist(), key=lambda c: -c["counts"])
    groups = ((c["values"], ok.filter(pc.equal(ok["style"], c["values"]))) for c in counts)
    return [found for style, rows in groups for found in _of_style(style, rows.combine_chunks())]


def _of_style(style: str, rows: pa.Table) -> Iterator[StyleConsistency]:
    images, sources, results = _measured(rows)
    if len(images) < LEAST_IMAGES:
        return
    spreads: dict[str, Spread] = {}
    times = []
    for name, least in LEAST.items():
        source, result = _numbers(sources, name), _numbers(results, name)
        distances = [_to_median(values, name) for values in (result - source, result)]
        medians = [float(np.median(found)) for found in distances]
        spreads[name] = Spread(*(round(median, 4) for median in medians))
        times.append(distances[int(np.argmin(medians))] / max(min(medians), least))
    farthest = np.max(times, axis=0)
    by = [list(LEAST)[i] for i in np.argmax(times, axis=0)]
    locked, differing = _settings(rows)
    outliers = []
    for i in np.argsort(-farthest, kind="stable")[:OUTLIERS]:
        id, path = images[i]
        outliers.append(Outlier(id, path, by[i], round(float(farthest[i]), 1)))
    yield StyleConsistency(
        style, len(images), **spreads, locked=locked, differing=differing, outliers=outliers
    )


def _measured(rows: pa.Table) -> tuple[list[tuple[str, str]], pa.StructArray, pa.StructArray]:
    """Return (id, path) of each image that was measured, and the looks of source and result."""
    outputs = rows["outputs"].combine_chunks()
    flat = outputs.flatten()
    sources, results = (pc.struct_field(flat, name) for name in ("source_look", "look"))
    measured = pc.is_valid(results)
    ids = rows["id"].take(pc.list_parent_indices(outputs).filter(measured)).to_pylist()
    uris = pc.struct_field(flat, "uri").filter(measured).to_pylist()
    images = [(id, published_path(uri)) for id, uri in zip(ids, uris, strict=True)]
    return images, sources.filter(measured), results.filter(measured)


def _numbers(looks: pa.StructArray, name: str) -> np.ndarray:
    """Read a field of all looks, (n, 3) or (n, 10)."""
    return pc.struct_field(looks, name).flatten().to_numpy().reshape(len(looks), -1)


def _to_median(values: np.ndarray, name: str) -> np.ndarray:
    """Measure the distance of each row of (n, k) to the median one: in L*a*b* CIE's of 1976, of
    textures the share of pixels that differ (Swain and Ballard 1991)."""
    differences = values - np.median(values, axis=0)
    if name == "texture":
        return np.abs(differences).sum(axis=1) / 2
    return np.linalg.norm(differences, axis=1)


def _settings(rows: pa.Table) -> tuple[dict[str, Any], list[str]]:
    """Split the options of these rows: those with one value, and those with several."""
    values = {
        name: rows[name].unique().to_pylist()
        for name in EditOptions.model_fields
        if name != "style"
    }
    locked = {name: found[0] for name, found in values.items() if len(found) == 1}
    differing = [name for name, found in values.items() if len(found) > 1]
    return {name: value for name, value in locked.items() if value is not None}, differing
