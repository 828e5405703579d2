"""The speed of a run as a line, in the pixels of report.html's drawing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

PLOT_WIDTH_PX, PLOT_HEIGHT_PX = 640, 120
LEFT_PX, BOTTOM_PX = 48, 20  # room for the labels


@dataclass(frozen=True, slots=True)
class SpeedChart:
    """Images/s over the seconds of editing."""

    end_s: float
    """The end of the horizontal axis, which begins at 0."""
    top_images_per_s: float
    """The end of the vertical axis, which begins at 0."""
    corners: str
    """The line as SVG's `points`: "x,y x,y ..."."""
    left_px: int = LEFT_PX
    plot_width_px: int = PLOT_WIDTH_PX
    plot_height_px: int = PLOT_HEIGHT_PX
    width_px: int = LEFT_PX + PLOT_WIDTH_PX
    height_px: int = PLOT_HEIGHT_PX + BOTTOM_PX


def speed_chart(points: Sequence[tuple[float, float]]) -> SpeedChart | None:
    """Place (seconds since editing began, images/s until then) in a drawing; None for fewer than
    two points, and where they took no time."""
    end_s = max((seconds for seconds, _ in points), default=0.0)
    if len(points) < 2 or end_s <= 0:
        return None
    top = max(speed for _, speed in points) or 1.0
    corners = " ".join(
        f"{LEFT_PX + PLOT_WIDTH_PX * seconds / end_s:.1f},"
        f"{PLOT_HEIGHT_PX - PLOT_HEIGHT_PX * speed / top:.1f}"
        for seconds, speed in [(0.0, points[0][1]), *points]
    )
    return SpeedChart(end_s, top, corners)
