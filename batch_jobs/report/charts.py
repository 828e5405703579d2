"""Drawings of report.html, as inline SVG."""

from __future__ import annotations

from collections.abc import Sequence

WIDTH_PX, HEIGHT_PX = 640, 120
LEFT_PX, BOTTOM_PX = 48, 20  # room for the labels


def speed_chart(points: Sequence[tuple[float, float]]) -> str:
    """Images/s over the seconds of a run; nothing for fewer than two points."""
    if len(points) < 2:
        return ""
    end_s = max(seconds for seconds, _ in points)
    top = max(speed for _, speed in points) or 1.0
    corners = " ".join(
        f"{LEFT_PX + WIDTH_PX * seconds / end_s:.1f},{HEIGHT_PX - HEIGHT_PX * speed / top:.1f}"
        for seconds, speed in points
    )
    base = f"{LEFT_PX},{HEIGHT_PX}"
    labels = (
        f"<text x='0' y='12'>{top:.3g}</text><text x='0' y='{HEIGHT_PX}'>0</text>"
        f"<text x='{LEFT_PX}' y='{HEIGHT_PX + 16}'>0 s</text>"
        f"<text x='{LEFT_PX + WIDTH_PX}' y='{HEIGHT_PX + 16}' text-anchor='end'>"
        f"{end_s:.0f} s</text>"
    )
    return (
        f"<svg width='{LEFT_PX + WIDTH_PX}' height='{HEIGHT_PX + BOTTOM_PX}' font-size='12' "
        "role='img' aria-label='images per second over time'>"
        f"<polyline points='{base} {LEFT_PX + WIDTH_PX},{HEIGHT_PX}' stroke='#999'/>"
        f"<polyline points='{corners}' fill='none' stroke='#c8452d' stroke-width='2'/>"
        f"{labels}</svg>"
    )
