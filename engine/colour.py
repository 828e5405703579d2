"""Pixels of any mode and colour profile -> sRGB over white, band by band."""

from __future__ import annotations

import io
from collections.abc import Callable
from functools import lru_cache

import numpy as np
from PIL import Image, ImageCms

from engine.bands import bands
from engine.errors import ImageUnreadable
from engine.picture import Picture, image_of
from engine.png import MAX_PROFILE_BYTES

# Of 255. On a lattice of colours, sRGB profiles in use (of v2 and v4, with tables or formulae, of
# 410 bytes to 9 KB) differ by at most 1, the nearest other one (a gamma of 2.2) by 9.
SRGB_TOLERANCE = 2
CACHED_PROFILE_BYTES = 2**14  # those of cameras and screens; what is kept must not fill the memory
_SRGB = ImageCms.createProfile("sRGB")
_SPACES = {"L": "GRAY", "RGB": "RGB", "CMYK": "CMYK"}  # mode -> the space of a profile that fits
_COLOURS = {"1": "L", "LA": "L", "RGBA": "RGB", "P": "RGB", "PA": "RGB", "I;16": "L"}

Convert = Callable[[Image.Image], Image.Image]


def to_srgb(
    picture: Picture, header: Image.Image, notes: list[str], keep_alpha: bool = False
) -> tuple[Picture, Image.Image | None]:
    """Convert `picture` to RGB in sRGB over white; with `keep_alpha` give its alpha too (mode L),
    but where all is opaque.

    `header` has its mode, profile and transparency. Beside an image there is never more than its
    result in memory. `notes` gets the codes of what was softened.
    """
    convert = _converter(header, notes)
    if header.mode == "RGB" and "transparency" not in header.info and convert is None:
        return picture, None
    image = image_of(picture)
    image.info = header.info
    result = Image.new("RGB", image.size)
    opacity = Image.new("L", image.size, 255) if keep_alpha else None
    is_opaque = True
    for box in bands(image.size):
        colours, alpha = _split(image.crop(box))
        colours = colours if convert is None else convert(colours)
        if alpha is not None and alpha.getextrema() != (255, 255):
            is_opaque = False
            colours = _over_white(colours, alpha)
            if opacity is not None:
                opacity.paste(alpha, box)
        result.paste(colours, box)
    if not is_opaque:
        notes.append("alpha_flattened")
    return result, None if is_opaque else opacity


def _split(band: Image.Image) -> tuple[Image.Image, Image.Image | None]:
    """The colours without alpha, in the mode that a profile speaks of, and the alpha (mode L)."""
    key = band.info.get("transparency")
    if band.mode == "I;16":  # Pillow would cut it to 8 bits
        clear = None if key is None else np.where(np.asarray(band) == key, 0, 255).astype(np.uint8)
        return band, None if clear is None else Image.fromarray(clear)
    if band.mode == "1":
        band = band.convert("L")
        band.info = {} if key is None else {"transparency": key}
    if band.mode in ("P", "PA") or (band.mode == "RGB" and key is not None):
        band = band.convert("RGBA")
    elif band.mode == "L" and key is not None:
        band = band.convert("LA")
    if band.mode in ("LA", "RGBA"):
        return band.convert(_COLOURS[band.mode]), band.getchannel("A")
    return band, None


def _over_white(colours: Image.Image, alpha: Image.Image) -> Image.Image:
    """`colours`, which are used up, laid over white."""
    colours.putalpha(alpha)
    return Image.alpha_composite(Image.new("RGBA", colours.size, "white"), colours).convert("RGB")


def _converter(image: Image.Image, notes: list[str]) -> Convert | None:
    """What takes the colours of `image` to sRGB; `None` where they are there already."""
    mode = _COLOURS.get(image.mode, image.mode)
    transform = None
    if profile := image.info.get("icc_profile"):
        try:
            fits_cache = len(profile) <= CACHED_PROFILE_BYTES
            transform = (_cached_transform if fits_cache else _transform)(profile, mode)
        except (ImageCms.PyCMSError, OSError, ValueError):
            notes.append("icc_ignored")
    if mode == "CMYK" and transform is None:
        notes.append("cmyk_converted")
    if image.mode == "I;16":
        return _from_sixteen_bits(transform or _plainly)
    if transform is None:
        return None if mode == "RGB" else _plainly
    return transform


def _transform(profile: bytes, mode: str) -> Convert | None:
    """What takes pixels of `mode` through their ICC profile; `None` where it changes nothing.

    Not the profile's name says so: linear light is called sRGB too. Raises `PyCMSError` where the
    profile is broken or not for such pixels.
    """
    if len(profile) > MAX_PROFILE_BYTES:
        raise ImageCms.PyCMSError("the profile is too large")
    source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
    if source.profile.xcolor_space.strip() != _SPACES.get(mode):
        raise ImageCms.PyCMSError("the profile is for other pixels")
    # What LittleCMS makes of grey to be fast is off by up to 10 of 255 in dark linear light.
    flags = ImageCms.Flags.NOOPTIMIZE if mode == "L" else ImageCms.Flags(0)
    transform = ImageCms.buildTransform(source, _SRGB, mode, "RGB", flags=flags)
    if mode == "CMYK":
        return lambda band: _apply(band, transform)
    lattice = _lattice(mode)
    before, after = np.asarray(_plainly(lattice)), np.asarray(_apply(lattice, transform))
    if np.abs(after.astype(int) - before).max() <= SRGB_TOLERANCE:
        return None
    if mode == "L":
        return lambda band: Image.fromarray(after[0].take(np.asarray(band), axis=0))
    return lambda band: _apply(band, transform)


_cached_transform = lru_cache(maxsize=16)(_transform)


def _lattice(mode: str) -> Image.Image:
    """Every grey; of RGB also 17 x 17 x 17 colours, evenly spread."""
    grey = np.arange(256, dtype=np.uint8)
    if mode == "L":
        return Image.fromarray(grey[None])
    steps = np.meshgrid(*[grey[::15].copy()] * 3, indexing="ij")
    colours = np.concatenate([np.stack(steps, -1).reshape(-1, 3), np.stack([grey] * 3, -1)])
    return Image.fromarray(colours[None])


def _apply(band: Image.Image, transform: ImageCms.ImageCmsTransform) -> Image.Image:
    converted = ImageCms.applyTransform(band, transform)
    if converted is None:
        raise ImageUnreadable("the colour profile cannot be applied")
    return converted


def _from_sixteen_bits(convert: Convert) -> Convert:
    """`convert`, made for 8 bits of grey, for 16: between two greys of 8 bits it is straight."""
    table = np.asarray(convert(_lattice("L")))[0].astype(float)  # (256, 3)
    greys = np.arange(65536) / 257  # 65535 is white, so 65535 / 257 = 255
    wide = np.stack([np.interp(greys, np.arange(256), table[:, c]) for c in range(3)], -1)
    wide = wide.round().astype(np.uint8)
    return lambda band: Image.fromarray(wide.take(np.asarray(band), axis=0))


def _plainly(band: Image.Image) -> Image.Image:
    return band if band.mode == "RGB" else band.convert("RGB")
