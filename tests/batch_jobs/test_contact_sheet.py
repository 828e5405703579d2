"""The contact sheet's captions, with and without a font for them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image, ImageFont

from batch_jobs.report import contact_sheet
from batch_jobs.report.contact_sheet import SheetRow, draw_contact_sheet

CHINESE = ("改成夜景", "黑白照片，其余保持不变")


@pytest.fixture(autouse=True)
def fonts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """A machine with no font but what a test adds, and no program but those of a test's folder."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(contact_sheet, "CJK_FONTS", ())
    contact_sheet._font.cache_clear()
    yield
    contact_sheet._font.cache_clear()


def add_fontconfig(folder: Path, languages: str) -> None:
    """An `fc-match` that names a font file, whatever it is asked."""
    font = folder / "font.ttf"
    font.write_bytes(ImageFont.load_default(12).font_bytes)  # type: ignore[union-attr]
    command = folder / "fc-match"
    command.write_text(f"#!/bin/sh\nprintf '%s\\t0\\t%s' {font} '{languages}'\n")
    command.chmod(0o755)


def sheet(caption: str) -> bytes:
    image = Image.new("RGB", (96, 64))
    return draw_contact_sheet([SheetRow(image, [(caption, image)])])


def test_chinese_captions_are_drawn_with_the_font_that_fontconfig_knows(tmp_path: Path) -> None:
    add_fontconfig(tmp_path, "en|zh-cn|zh-tw")
    assert sheet(CHINESE[0]) != sheet(CHINESE[1])


@pytest.mark.parametrize("languages", [None, "en|de"])  # no fontconfig; one without such a font
def test_where_no_font_has_chinese_the_caption_says_where_it_stands(
    tmp_path: Path, languages: str | None
) -> None:
    if languages:
        add_fontconfig(tmp_path, languages)
    assert {sheet(caption) for caption in CHINESE} == {sheet("(caption: see report.html)")}


def test_a_fontconfig_that_fails_is_none(tmp_path: Path) -> None:
    (tmp_path / "fc-match").write_text("#!/bin/sh\nexit 1\n")
    (tmp_path / "fc-match").chmod(0o755)
    assert sheet(CHINESE[0]) == sheet("(caption: see report.html)")
