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
    """Each with the instruction that made it."""
    source_url: str | None = None
    """Relative to the output, where the source can be reached from there."""
    files: list[str] = field(default_factory=list)
    """Where each edit is in the output."""


def draw_contact_sheet(rows: Sequence[SheetRow]) -> bytes:
    """Draw a PNG: the source at the left of each line, its edits to the right, captions below."""
    columns = 1 + max(len(row.edits) for row in rows)
    heights = [max(thumbnail(image).height for image in _images(row)) for row in rows]
    height = GAP_PX + sum(heights) + len(rows) * (CAPTION_PX + GAP_PX)
    sheet = Image.new("RGB", (GAP_PX + columns * (TILE_PX + GAP_PX), height), "white")
    top = GAP_PX
    for row, line_px in zip(rows, heights, strict=True):
        _draw_tile(sheet, row.source, "source", (GAP_PX, top), muted=True)
        for column, (caption, image) in enumerate(row.edits, start=1):
            left = GAP_PX + column * (TILE_PX + GAP_PX)
            _draw_tile(sheet, image, caption, (left, top), muted=False)
        top += line_px + CAPTION_PX + GAP_PX
    buffer = io.BytesIO()
    sheet.save(buffer, "PNG")
    return buffer.getvalue()


def _images(row: SheetRow) -> list[Image.Image]:
    return [row.source, *(image for _, image in row.edits)]


def thumbnail(image: Image.Image, side_px: int = TILE_PX) -> Image.Image:
    """Fit an image into a square of `side_px`, enlarging a smaller one; RGB, never stretched."""
    scale = side_px / max(image.size)
    size = (max(round(image.width * scale), 1), max(round(image.height * scale), 1))
    return image.convert("RGB").resize(size, Image.Resampling.LANCZOS)


def _draw_tile(
    sheet: Image.Image, image: Image.Image, caption: str, at: tuple[int, int], *, muted: bool
) -> None:
    small = thumbnail(image)
    left, top = at
    sheet.paste(small, (left, top))
    draw = ImageDraw.Draw(sheet)
    font = _font(has_cjk=False)
    if any(ord(character) > 0x2E80 for character in caption):
        font = _font(has_cjk=True)
        if font is None:  # boxes say less than this
            font, caption = _font(has_cjk=False), "(caption: see report.html)"
    colour = "#888888" if muted else "#111111"
    for number, line in enumerate(_wrap(caption, font)[:2]):
        draw.text((left, top + small.height + 3 + number * 15), line, colour, font)


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


def _wrap(text: str, font: Any) -> list[str]:
    """Break text into lines no wider than a tile: at spaces, or anywhere where it has none."""
    lines = [""]
    for word in text.split(" ") if " " in text else list(text):
        joined = f"{lines[-1]} {word}".strip() if " " in text else lines[-1] + word
        if font.getlength(joined) <= TILE_PX or not lines[-1]:
            lines[-1] = joined
        else:
            lines.append(word)
    return lines
