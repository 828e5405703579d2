"""Before and after, side by side: one line for each source image."""

from __future__ import annotations

import io
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw, ImageFont

TILE_PX = 160
CAPTION_PX = 34
GAP_PX = 12
FONTCONFIG_TIMEOUT_S = 10.0  # it reads every font of a machine the first time
# Fonts with Chinese glyphs, in the places where macOS, Windows and images of Debian and Fedora
# without fontconfig's programs keep them.
CJK_FONTS = (
    "/usr/share/fonts/opentype/noto/NotoSansCJK-Regular.ttc",
    "/usr/share/fonts/google-noto-cjk/NotoSansCJK-Regular.ttc",
    "/usr/share/fonts/truetype/wqy/wqy-microhei.ttc",
    "/System/Library/Fonts/PingFang.ttc",
    "C:/Windows/Fonts/msyh.ttc",
)


@dataclass(frozen=True, slots=True)
class SheetRow:
    """A source image and what became of it."""

    source: Image.Image
    edits: list[tuple[str, Image.Image]] = field(default_factory=list)
    """Each with the instruction that made it, or what else tells it from the others."""
    source_url: str | None = None
    """Relative to the output, where the source can be reached from there."""
    files: list[str] = field(default_factory=list)
    """Where each edit is in the output."""
    caption: str = "source"
    """Of the source image."""


def draw_contact_sheet(rows: Sequence[SheetRow], tile_px: int = TILE_PX) -> bytes:
    """Draw a PNG: the source at the left of each line, its edits to the right, captions below.

    `tile_px`: the longer side of each picture.
    """
    columns = 1 + max(len(row.edits) for row in rows)
    tiles = [[(c, thumbnail(image, tile_px)) for c, image in _captioned(row)] for row in rows]
    heights = [max(image.height for _, image in line) for line in tiles]
    height = GAP_PX + sum(heights) + len(rows) * (CAPTION_PX + GAP_PX)
    sheet = Image.new("RGB", (GAP_PX + columns * (tile_px + GAP_PX), height), "white")
    top = GAP_PX
    for line, line_px in zip(tiles, heights, strict=True):
        for column, (caption, image) in enumerate(line):
            left = GAP_PX + column * (tile_px + GAP_PX)
            sheet.paste(image, (left, top))
            at = (left, top + image.height + 3)
            _draw_caption(sheet, caption, at, tile_px, muted=column == 0)
        top += line_px + CAPTION_PX + GAP_PX
    buffer = io.BytesIO()
    sheet.save(buffer, "PNG")
    return buffer.getvalue()


def _captioned(row: SheetRow) -> list[tuple[str, Image.Image]]:
    return [(row.caption, row.source), *row.edits]


def thumbnail(image: Image.Image, side_px: int = TILE_PX) -> Image.Image:
    """Fit an image into a square of `side_px`, enlarging a smaller one; RGB, never stretched."""
    scale = side_px / max(image.size)
    size = (max(round(image.width * scale), 1), max(round(image.height * scale), 1))
    return image.convert("RGB").resize(size, Image.Resampling.LANCZOS)


def _draw_caption(
    sheet: Image.Image, caption: str, at: tuple[int, int], width_px: int, *, muted: bool
) -> None:
    left, top = at
    draw = ImageDraw.Draw(sheet)
    font = _font(has_cjk=False)
    if any(ord(character) > 0x2E80 for character in caption):
        font = _font(has_cjk=True)
        if font is None:  # boxes say less than this
            font, caption = _font(has_cjk=False), "(caption: see report.html)"
    colour = "#888888" if muted else "#111111"
    for number, line in enumerate(_wrap(caption, font, width_px)[:2]):
        draw.text((left, top + number * 15), line, colour, font)


@lru_cache(maxsize=2)
def _font(*, has_cjk: bool) -> Any:
    """Load a font with Chinese glyphs, None where this machine has none; or Pillow's own."""
    if not has_cjk:
        return ImageFont.load_default(12)
    for path, face in (*_fontconfig(), *((path, 0) for path in CJK_FONTS)):
        if Path(path).exists():
            return ImageFont.truetype(path, 12, index=face)
    return None


def _fontconfig() -> list[tuple[str, int]]:
    """Ask fontconfig, where it is installed, for a font with Chinese glyphs: (file, face in it)."""
    command = shutil.which("fc-match")
    if command is None:
        return []
    asked = [command, "--format", "%{file}\\t%{index}\\t%{lang}", "sans-serif:lang=zh-cn"]
    try:
        answer = subprocess.run(
            asked, capture_output=True, text=True, check=True, timeout=FONTCONFIG_TIMEOUT_S
        )
    except (OSError, subprocess.SubprocessError):
        return []
    path, face, languages = answer.stdout.split("\t")
    # Without a Chinese one it names some other font.
    return [(path, int(face))] if "zh-cn" in languages.split("|") else []


def _wrap(text: str, font: Any, width_px: int) -> list[str]:
    """Break text into lines of at most this width: at spaces, or anywhere where it has none."""
    lines = [""]
    for word in text.split(" ") if " " in text else list(text):
        joined = f"{lines[-1]} {word}".strip() if " " in text else lines[-1] + word
        if font.getlength(joined) <= width_px or not lines[-1]:
            lines[-1] = joined
        else:
            lines.append(word)
    return lines
