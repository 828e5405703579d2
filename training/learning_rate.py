"""The learning rate of a run that may be made longer while it is on its way."""

from __future__ import annotations

import argparse


def falling_rate(options: argparse.Namespace, step: int, warm_up_steps: int) -> float:
    """Return --lr after a warm-up, flat, then on a straight line to 0 at --steps, which is as long
    as from --decay-from."""
    falling = max(1, options.steps - options.decay_from)
    warm = min(1.0, (step + 1) / warm_up_steps)
    return float(options.lr * warm * min(1.0, max(options.steps - step, 0) / falling))
