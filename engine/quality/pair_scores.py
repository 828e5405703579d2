"""A pair of pictures, before and after an edit, in numbers: is it a pair to learn from?"""

from __future__ import annotations

import numpy as np
from PIL import Image

from engine.edit import PairScores
from engine.quality.grey import grey_of, reduced
from engine.quality.structure import edge_correlation


def score_pair(before: Image.Image, after: Image.Image) -> PairScores:
    """Compare two RGB pictures of one size, both reduced to 256 px at most."""
    source, edited = reduced(np.asarray(before)), reduced(np.asarray(after))
    difference = edited.astype(np.float32) - source
    return PairScores(
        change=float(np.sqrt((difference * difference).mean())),
        edge_correlation=edge_correlation(grey_of(source), grey_of(edited)),
    )
