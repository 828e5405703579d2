"""What kind of image a file is, by its first bytes, and which kinds are taken."""

from __future__ import annotations

from collections.abc import Collection
from typing import Annotated

from pydantic import AfterValidator, Field

from engine.errors import ImageUnsupported, OptionInvalid

FORMATS = ("JPEG", "PNG", "WEBP")
# Taken only where an operator asks for them: each is another decoder that strangers can reach.
OPTIONAL_FORMATS = {"avif": "AVIF", "bmp": "BMP", "gif": "GIF", "heic": "HEIF", "tiff": "TIFF"}
# How a file begins, and as what Pillow knows it.
_BEGINNINGS = {
    b"\xff\xd8": "JPEG",
    b"\x89PNG": "PNG",
    b"GIF87a": "GIF",
    b"GIF89a": "GIF",
    b"BM": "BMP",
    b"II*\0": "TIFF",
    b"MM\0*": "TIFF",
    b"II+\0": "TIFF",  # with addresses of 64 bits
    b"MM\0+": "TIFF",
}
_BRANDS = {b"avif": "AVIF", b"avis": "AVIF"} | dict.fromkeys(
    (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"), "HEIF"
)  # of an ISO base media file; ISO/IEC 23008-12, annex B


def format_of(data: bytes) -> str | None:
    """Recognize the format of a file, as Pillow calls it; `None` where rayedit knows none."""
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "WEBP"
    if data[4:8] == b"ftyp":
        brands = [data[at : at + 4] for at in range(8, min(int.from_bytes(data[:4]), 64), 4)]
        found = [_BRANDS[brand] for brand in brands if brand in _BRANDS]
        return "AVIF" if "AVIF" in found else next(iter(found), None)
    return next((name for start, name in _BEGINNINGS.items() if data.startswith(start)), None)


def taken_format(data: bytes, accept: Collection[str] = ()) -> str:
    """Recognize a format that is taken: one of `FORMATS`, or of `OPTIONAL_FORMATS` by the names in
    `accept`. Raises `ImageUnsupported`."""
    format = format_of(data)
    is_optional = any(OPTIONAL_FORMATS.get(name) == format for name in accept)
    if format is not None and (format in FORMATS or is_optional):
        if format == "HEIF":
            _load_heif()
        return format
    taken = taken_names(accept)
    if format is None:
        raise ImageUnsupported(
            f"the file is not a {taken} image (its content decides, not its name)"
        )
    raise ImageUnsupported(f"the file is a {format} image; send {taken}")


def taken_names(accept: Collection[str] = ()) -> str:
    """List the formats that are taken: "JPEG, PNG or WebP"."""
    *most, last = ["JPEG", "PNG", "WebP", *(name.upper() for name in sorted(accept))]
    return f"{', '.join(most)} or {last}"


def check_accept(accept: tuple[str, ...]) -> tuple[str, ...]:
    """Refuse names that are none of `OPTIONAL_FORMATS`, and "heic" where its decoder is not
    installed; raises `OptionInvalid`."""
    if unknown := sorted(set(accept) - OPTIONAL_FORMATS.keys()):
        known = ", ".join(OPTIONAL_FORMATS)
        raise OptionInvalid(f'accept: "{unknown[0]}" is none of {known}', param="accept")
    if "heic" in accept:
        _load_heif()
    return accept


# A setting of every door.
Accept = Annotated[
    tuple[str, ...],
    AfterValidator(check_accept),
    Field(
        description="further formats of source images that are taken, by content: avif, bmp, gif "
        "(its first frame), heic (needs rayedit[heic]), tiff"
    ),
]


def _load_heif() -> None:
    """Make Pillow know HEIF; raises `OptionInvalid`."""
    try:
        import pillow_heif
    except ImportError:
        raise OptionInvalid(
            'accept: heic needs pillow-heif: pip install "rayedit[heic]"', param="accept"
        ) from None
    pillow_heif.register_heif_opener()
