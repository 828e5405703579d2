"""How alike the edits of a style came out: the spread of what they changed, and the outliers.

A spread is the median of the distances to the median, so that a few spoiled pictures do not hide
themselves in it.
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
# Distances below these are not seen, whatever the spread: 2.3 of L*a*b* is a just noticeable
# difference (Mahy, Van Eycken and Oosterlinck 1994); half of it is the most that is let pass.
LEAST_LAB, LEAST_TEXTURE = 1.15, 0.01


@dataclass(frozen=True, slots=True)
class Outlier:
    """Names an image that came out otherwise than most of its style."""

    id: str  # of its row
    path: str  # in the output folder
    lab: float  # distance of its colours' shift to the median one, in L*a*b*
    border_lab: float  # the same of the band along the sides
    texture: float  # how far its texture's shift is from the median one
    times_spread: float  # the largest of the three, over the spread


@dataclass(frozen=True, slots=True)
class StyleConsistency:
    """Says how alike the images of a style came out."""

    style: str
    images: int
    lab_spread: float
    border_lab_spread: float
    texture_spread: float
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
    images, lab, border, texture = _shifts(rows)
    if len(images) < LEAST_IMAGES:
        return
    distances = np.stack([_to_median(lab), _to_median(border), _to_median(texture)], axis=1)
    spreads = np.median(distances, axis=0)
    times = (distances / np.maximum(spreads, [LEAST_LAB, LEAST_LAB, LEAST_TEXTURE])).max(axis=1)
    farthest = np.argsort(-times, kind="stable")[:OUTLIERS]
    locked, differing = _settings(rows)
    lab_spread, border_lab_spread, texture_spread = _rounded(spreads)
    outliers = []
    for i in farthest:
        (id, path), found = images[i], _rounded(distances[i])
        outliers.append(Outlier(id, path, *found, times_spread=round(float(times[i]), 1)))
    yield StyleConsistency(
        style,
        len(images),
        lab_spread,
        border_lab_spread,
        texture_spread,
        locked=locked,
        differing=differing,
        outliers=outliers,
    )


def _rounded(values: np.ndarray) -> tuple[float, float, float]:
    lab, border_lab, texture = (round(float(value), 4) for value in values)
    return lab, border_lab, texture


def _shifts(
    rows: pa.Table,
) -> tuple[list[tuple[str, str]], np.ndarray, np.ndarray, np.ndarray]:
    """Return (id, path) of each image that was measured, and its shifts: (n, 3), (n, 3), (n, 1)."""
    outputs = rows["outputs"].combine_chunks()
    shifts = pc.struct_field(outputs.flatten(), "style_shift")
    measured = pc.is_valid(shifts).to_numpy(zero_copy_only=False)
    parents = pc.list_parent_indices(outputs).to_numpy()[measured]
    uris = pc.struct_field(outputs.flatten(), "uri").filter(pa.array(measured)).to_pylist()
    ids = rows["id"].take(pa.array(parents)).to_pylist()
    images = [(id, published_path(uri)) for id, uri in zip(ids, uris, strict=True)]
    shifts = shifts.drop_null()
    lab, border = (
        pc.struct_field(shifts, name).flatten().to_numpy().reshape(-1, 3)
        for name in ("lab", "border_lab")
    )
    return images, lab, border, pc.struct_field(shifts, "texture").to_numpy().reshape(-1, 1)


def _to_median(shifts: np.ndarray) -> np.ndarray:
    return np.linalg.norm(shifts - np.median(shifts, axis=0), axis=1)


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
