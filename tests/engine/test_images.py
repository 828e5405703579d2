"""Bytes become upright sRGB pixels, or one clear error; geometry never stretches."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import Image, ImageCms, PngImagePlugin

from engine import errors
from engine.catalogue import MODELS
from engine.geometry import from_canvas, plan_geometry, to_canvas
from engine.images import decode, encode
from engine.options import EditOptions
from engine.png import PngFile, text_of
from engine.spec import ModelSpec
from tests.conftest import jpeg, photograph, png
from tests.engine.files import saved, with_chunk

SD = MODELS["instruct-pix2pix"]
POCKET = MODELS["pocket"]


def test_orientation_of_the_camera_is_applied() -> None:
    upright = Image.fromarray(photograph("coffee")).resize((60, 40))
    exif = Image.Exif()
    for orientation, turn in ((3, Image.Transpose.ROTATE_180), (6, Image.Transpose.ROTATE_90)):
        exif[0x0112] = orientation
        data = saved(upright.transpose(turn), "PNG", exif=exif)
        assert np.array_equal(np.asarray(decode(data).image), np.asarray(upright))


@pytest.mark.parametrize(
    ("size", "mode", "kind"),
    [
        ((53, 37), "RGB", np.ndarray),
        ((5000, 5000), "RGB", np.ndarray),
        ((5000, 5001), "RGB", Image.Image),  # beside an array Pillow could not write it as WebP
        ((53, 37), "L", Image.Image),
    ],
)
def test_a_jpeg_of_colours_is_the_array_of_its_decoder(
    size: tuple[int, int], mode: str, kind: type
) -> None:
    data = saved(Image.new(mode, size, "teal" if mode == "RGB" else 200), "JPEG")
    decoded = decode(data)
    assert isinstance(decoded.picture, kind)
    with Image.open(io.BytesIO(data)) as image:
        assert decoded.image.tobytes() == image.convert("RGB").tobytes()


def test_hidden_colours_under_transparency_do_not_reappear() -> None:
    secret = np.zeros((20, 20, 4), np.uint8)
    secret[..., 0] = 255  # red, fully transparent
    assert (np.asarray(decode(saved(Image.fromarray(secret), "PNG")).image) == 255).all()


def test_a_transparent_palette_is_laid_over_white() -> None:
    image = Image.new("P", (20, 20), 0)
    image.putpalette([255, 0, 0] + [0] * 765)
    assert (np.asarray(decode(saved(image, "PNG", transparency=0)).image) == 255).all()


def test_sixteen_bit_grey_keeps_its_brightness() -> None:
    grey = Image.fromarray(np.full((20, 20), 32768, np.uint16))
    assert abs(int(np.asarray(decode(saved(grey, "PNG")).image)[0, 0, 0]) - 128) <= 1


def test_a_transparent_sixteen_bit_grey_is_white_and_the_others_keep_their_brightness() -> None:
    values = np.full((20, 20), 32768, np.uint16)
    values[:10] = 4000
    decoded = decode(with_chunk(saved(Image.fromarray(values), "PNG"), b"tRNS", b"\x0f\xa0"))
    pixels = np.asarray(decoded.image).astype(int)
    assert (pixels[:10] == 255).all() and (abs(pixels[10:] - 128) <= 1).all()


def test_cmyk_is_converted_with_a_warning() -> None:
    decoded = decode(saved(Image.fromarray(photograph("coffee")).convert("CMYK"), "JPEG"))
    assert decoded.image.mode == "RGB"
    assert decoded.warnings == ["cmyk_converted"]


def swapped_profile() -> bytes:
    """sRGB with its red and blue primaries exchanged, under another name."""
    data = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    data = data.replace("sRGB".encode("utf-16-be"), "test".encode("utf-16-be"))
    return data.replace(b"rXYZ", b"????").replace(b"bXYZ", b"rXYZ").replace(b"????", b"bXYZ")


def with_swapped_profile(mode: str, profile: bytes) -> bytes:
    """A red picture that claims to be in `profile`."""
    red = Image.new("RGB", (20, 20), (200, 30, 30)).convert(mode)
    return saved(red, "JPEG" if mode == "CMYK" else "PNG", icc_profile=profile)


def test_colour_profiles_are_converted_to_srgb() -> None:
    lab = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    assert decode(saved(Image.new("RGB", (20, 20)), "PNG", icc_profile=lab)).warnings == [
        "icc_ignored"
    ]
    for mode in ("RGB", "RGBA", "P", "CMYK"):
        assert "icc_ignored" in decode(with_swapped_profile(mode, lab)).warnings
    swapped = swapped_profile()
    for mode in ("RGB", "RGBA", "P"):
        decoded = decode(with_swapped_profile(mode, swapped))
        assert decoded.warnings == []
        red, _, blue = np.asarray(decoded.image)[0, 0].tolist()
        assert red < 60 and blue > 180, mode
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    pixels = photograph("coffee")[:40, :40]
    decoded = decode(saved(Image.fromarray(pixels), "PNG", icc_profile=srgb))
    assert np.array_equal(np.asarray(decoded.image), pixels)
    assert decoded.warnings == []


def test_broken_exif_does_not_break_a_picture() -> None:
    for junk in (b"Exif\0\0", b"Exif\0\0II*\0\x08\0\0\0\xff\xff", b"\0" * 40):
        data = saved(Image.new("RGB", (20, 20)), "JPEG", exif=junk)
        assert decode(data).image.size == (20, 20)


def test_broken_metadata_does_not_break_a_picture() -> None:
    """Files that Pillow opens and loads, and then raises for: TIFF, hex, text, nothing."""
    picture = Image.new("RGB", (20, 20))
    text = PngImagePlugin.PngInfo()
    text.add_text("Raw profile type exif", "exif\n8\nnot hex")
    packed = PngImagePlugin.PngInfo()
    packed.add_text("exif", "Exif", zip=True)
    for data in (
        saved(picture, "PNG", exif=b"no TIFF"),
        saved(picture, "WEBP", exif=b"no TIFF"),
        saved(picture, "JPEG", exif=b"Exif\0\0no TIFF", dpi=(72, 72)),
        saved(picture, "PNG", pnginfo=text),
        saved(picture, "PNG", pnginfo=packed),
    ):
        assert decode(data).image.size == (20, 20)
    for profile in (b"", b"name", b"name\0\0not deflated"):
        broken = with_chunk(saved(picture, "PNG"), b"iCCP", profile)
        assert decode(broken).warnings == ["icc_ignored"]


def test_a_restored_size_has_a_bound() -> None:
    with pytest.raises(errors.OptionInvalid, match="ask for fewer images"):
        plan_geometry((8000, 6000), EditOptions(restore_size=True, num_images=4), POCKET)


def test_nothing_but_pixels_reaches_the_output() -> None:
    exif = Image.Exif()
    exif[0x010E] = "CANARY-exif"
    data = saved(
        Image.fromarray(photograph("coffee")), "JPEG", exif=exif, comment=b"CANARY-comment"
    )
    decoded = decode(data + b"CANARY-trailer")
    assert b"CANARY" not in encode(Image.fromarray(np.asarray(decoded.image)))
    assert b"CANARY" not in encode(Image.fromarray(np.asarray(decoded.image)), "jpeg")


def bomb(width: int, height: int) -> bytes:
    """A PNG whose header promises width x height pixels."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)

    def chunk(kind: bytes, body: bytes) -> bytes:
        return (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )

    body = zlib.compress(b"\0" * 1000)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", body) + chunk(b"IEND", b"")
    )


def animated(format: str) -> bytes:
    frames = [Image.new("RGB", (20, 20), colour) for colour in ("red", "blue")]
    return saved(frames[0], format, save_all=True, append_images=frames[1:])


WHOLE = jpeg(photograph("coffee"))


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (b"", errors.ImageMissing),
        (b"not an image at all", errors.ImageUnsupported),
        (saved(Image.new("RGB", (20, 20)), "GIF"), errors.ImageUnsupported),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", errors.ImageUnsupported),
        (WHOLE[: len(WHOLE) // 2], errors.ImageTruncated),
        (png(photograph("coffee"))[:5000], errors.ImageTruncated),
        (bomb(12_001, 100), errors.ImageTooLarge),
        (bomb(8000, 8000), errors.ImageTooLarge),
        (bomb(100_000, 100_000), errors.ImageTooLarge),
        (png(np.zeros((15, 100, 3), np.uint8)), errors.ImageTooSmall),
        (png(np.zeros((20, 340, 3), np.uint8)), errors.ImageTooNarrow),
        (animated("PNG"), errors.ImageAnimated),
        (animated("WEBP"), errors.ImageAnimated),
        (b"\xff\xd8\xff" + b"\0" * (25 * 2**20), errors.ImageTooLarge),
    ],
)
def test_what_cannot_be_decoded_is_refused_by_its_code(
    data: bytes, error: type[errors.ImageError]
) -> None:
    with pytest.raises(error) as caught:
        decode(data)
    assert type(caught.value) is error


def test_fit_follows_the_reference_rule() -> None:
    """`edit_cli.py` of InstructPix2Pix at 512 px."""
    expected = {
        (1024, 1024): (512, 512),
        (640, 480): (512, 384),
        (1920, 1080): (512, 320),
        (6000, 4000): (576, 384),
        (500, 3000): (128, 768),
    }
    for source, canvas in expected.items():
        assert plan_geometry(source, EditOptions(), SD).inner == canvas


@example(width=194, aspect=194 / 801, resize="pad", restore=False, size="256x64", spec=SD)
@given(
    width=st.integers(16, 3000),
    aspect=st.floats(1 / 16, 16),
    resize=st.sampled_from(["fit", "crop", "pad"]),
    restore=st.booleans(),
    size=st.sampled_from([None, "128x128", "256x64"]),
    spec=st.sampled_from([SD, POCKET]),
)
def test_no_geometry_stretches(
    width: int, aspect: float, resize: str, restore: bool, size: str | None, spec: ModelSpec
) -> None:
    source = (width, min(max(round(width / aspect), 16), 3000))
    if max(source) > 16 * min(source) or (restore and resize == "crop"):
        return
    options = EditOptions(resize=resize, restore_size=restore, size=size)
    geometry = plan_geometry(source, options, spec)
    scales = geometry.inner / np.subtract(geometry.box[2:], geometry.box[:2])
    longer = np.argmax(geometry.inner)
    exact = geometry.inner / scales * scales[longer]
    assert abs(geometry.inner - exact).max() <= 0.51  # px: rounding to whole pixels
    canvas = np.add(geometry.inner, np.add(geometry.padding[:2], geometry.padding[2:]))
    assert not (canvas % spec.multiple).any()
    if size is None:
        assert max(canvas) <= 2 * spec.resolution
    else:
        assert "x".join(map(str, canvas)) == size
    assert min(geometry.box[:2]) >= 0
    assert geometry.output == (source if restore else geometry.inner)


def test_padding_is_cut_off_again() -> None:
    image = Image.fromarray(photograph("chelsea"))
    for options in (EditOptions(resize="pad"), EditOptions(restore_size=True)):
        geometry = plan_geometry(image.size, options, POCKET)
        canvas = to_canvas(image, geometry)
        back = from_canvas(canvas, geometry)
        assert back.size == geometry.output
        small = np.asarray(back.resize(geometry.inner)).astype(int)
        true = np.asarray(image.resize(geometry.inner, Image.Resampling.LANCZOS)).astype(int)
        assert np.abs(small - true).mean() < 6


def test_a_size_the_model_cannot_do_names_the_nearest_one() -> None:
    with pytest.raises(errors.OptionInvalid, match="the nearest is 128"):
        plan_geometry((500, 500), EditOptions(size="130x128"), POCKET)
    with pytest.raises(errors.OptionInvalid, match="up to 512"):
        plan_geometry((500, 500), EditOptions(size="1024x1024"), POCKET)


def test_the_same_pixels_give_the_same_bytes() -> None:
    pixels = photograph("rocket")
    data = encode(Image.fromarray(pixels))
    assert data == encode(Image.fromarray(pixels.copy()))
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(data))), pixels)


def test_the_bytes_of_a_png_do_not_depend_on_where_its_writer_lies_in_memory() -> None:
    pictures = [np.full((8, 24, 3), grey, np.uint8) for grey in range(256)]
    first = [encode(picture) for picture in pictures]
    held = []
    for _ in range(400):
        held.append(bytearray(70_000))  # the next writer lies elsewhere
        assert [encode(picture) for picture in pictures] == first


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "LA"])
@pytest.mark.parametrize("size", [(1, 1), (53, 37), (300, 1), (1, 300), (700, 701)])
def test_a_png_of_any_mode_and_size_has_its_pixels_and_its_text(
    mode: str, size: tuple[int, int]
) -> None:
    """Written in one band of rows, and in several."""
    shape = (*size[::-1], len(mode)) if len(mode) > 1 else size[::-1]
    pixels = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    data = encode(Image.fromarray(pixels, mode), command='rayedit edit "加雾"')
    with Image.open(io.BytesIO(data)) as image:
        assert image.mode == mode and np.array_equal(np.asarray(image), pixels)
    assert text_of(data) == 'rayedit edit "加雾"'
    assert PngFile(data).warnings == []  # every checksum is right


def test_a_photograph_as_png_is_at_most_a_tenth_larger_than_at_level_4() -> None:
    """Which takes ten times as long. Where all channels are one grey, it is smaller."""
    photo = Image.fromarray(photograph("chelsea"))
    for image, bound in ((photo, 1.1), (photo.convert("L").convert("RGB"), 1.0)):
        data = encode(image)
        assert np.array_equal(np.asarray(Image.open(io.BytesIO(data))), np.asarray(image))
        assert len(data) <= bound * len(saved(image, "PNG", compress_level=4))
