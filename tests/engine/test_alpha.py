"""A transparent source gets its alpha back: over white it is the same picture, elsewhere too."""

from __future__ import annotations

import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from engine.alpha import alpha_at_output, with_alpha
from engine.catalogue import MODELS
from engine.edit import EditResult
from engine.finishing import Finished
from engine.geometry import Geometry, from_canvas, plan_geometry, to_canvas
from engine.images import decode, encode
from engine.options import EditOptions
from engine.results import finished_images
from engine.sources import Prepared, Source, prepare
from tests.conftest import photograph
from tests.engine.files import saved
from tests.masks import draw_mask, openai_mask

POCKET = MODELS["pocket"]


def over(colour: tuple[int, int, int], image: Image.Image) -> np.ndarray:
    """An RGBA image laid over one colour."""
    rgba = np.asarray(image).astype(float)
    share = rgba[..., 3:] / 255
    return rgba[..., :3] * share + np.array(colour) * (1 - share)


@given(st.integers(0, 2**32 - 1))
def test_over_white_it_is_the_picture_that_the_model_made(seed: int) -> None:
    generator = np.random.default_rng(seed)
    source = generator.integers(0, 256, (16, 24, 4)).astype(np.uint8)
    decoded = decode(saved(Image.fromarray(source), "PNG"), keep_alpha=True)
    assert decoded.alpha is not None
    back = with_alpha(decoded.image.copy(), decoded.alpha)
    assert np.array_equal(np.asarray(back)[..., 3], source[..., 3])
    assert np.abs(over((255, 255, 255), back) - np.asarray(decoded.image)).max() <= 1
    black = over((0, 0, 0), Image.fromarray(source))
    assert np.abs(over((0, 0, 0), back) - black).max() <= 2  # no white is left at the edges


@pytest.mark.parametrize("options", [EditOptions(restore_size=True), EditOptions(size="128x64")])
def test_alpha_follows_the_picture_to_its_size(options: EditOptions) -> None:
    """A disc in the middle: where the edit shows it, alpha is 255."""
    y, x = np.mgrid[:200, :300]
    disc = (y - 100) ** 2 + (x - 150) ** 2 < 60**2
    source = np.dstack([np.zeros((200, 300, 3), np.uint8), np.where(disc, 255, 0).astype(np.uint8)])
    decoded = decode(saved(Image.fromarray(source), "PNG"), keep_alpha=True)
    assert decoded.alpha is not None
    geometry: Geometry = plan_geometry(decoded.image.size, options, POCKET)
    edited = from_canvas(to_canvas(decoded.image, geometry), geometry)
    alpha = alpha_at_output(decoded.alpha, geometry)
    assert alpha.size == edited.size == geometry.output
    assert np.abs(255 - np.asarray(edited)[..., 0].astype(int) - np.asarray(alpha)).mean() < 2
    if options.restore_size:
        assert np.array_equal(np.asarray(alpha), source[..., 3])


@pytest.mark.parametrize("format", ["png", "webp"])
def test_png_and_webp_carry_it(format: str) -> None:
    layer = with_alpha(Image.new("RGB", (16, 16), "white"), Image.new("L", (16, 16), 77))
    read = Image.open(io.BytesIO(encode(layer, format)))
    assert read.mode == "RGBA" and read.getpixel((3, 3))[3] == 77


COFFEE = photograph("coffee")[:200, :300]
DISC = np.where(np.hypot(*np.ogrid[-100:100, -150:150]) < 80, 255, 40).astype(np.uint8)
CLEAR = saved(Image.fromarray(np.dstack([COFFEE, DISC])), "PNG")


def asked(source: bytes, mask: bytes | None = None, **options: object) -> Prepared:
    given = EditOptions.parse({"background": "transparent", **options})
    files = Source(source, mask)
    return prepare("a", files, "make it night", POCKET.resolve(given, seed=1), POCKET)


def negative_of(edit: Prepared, count: int = 1) -> list[Finished]:
    """The pictures of a model that makes negatives."""
    pixels = edit.request.pixels
    images, seeds = [255 - pixels] * count, [*range(count)]
    return list(
        finished_images(EditResult("a", images, seeds, reconstructed=pixels), edit.finishing)
    )


@pytest.mark.parametrize("detail", ["model", "source"])
@pytest.mark.parametrize("preserve", ["off", "auto"])
@pytest.mark.parametrize("shape", [{}, {"size": "128x96"}, {"resize": "crop"}, {"resize": "pad"}])
def test_an_edit_is_transparent_where_its_source_is(
    detail: str, preserve: str, shape: dict[str, object]
) -> None:
    opaque = asked(CLEAR, background="opaque", detail=detail, preserve=preserve, **shape)
    edit = asked(CLEAR, detail=detail, preserve=preserve, **shape)
    assert "alpha_flattened" in opaque.warnings and "alpha_flattened" not in edit.warnings
    (flat,), made = negative_of(opaque), negative_of(edit, 2)
    whole = decode(CLEAR, keep_alpha=True).alpha
    assert whole is not None and flat.image.mode == "RGB"
    for one in made:
        assert one.image.mode == "RGBA" and one.image.size == flat.image.size
        alpha = np.asarray(one.image)[..., 3]
        assert np.array_equal(alpha, alpha_at_output(whole, edit.finishing.geometry))
        assert one.report == flat.report
        # of dark colours that are all but transparent the darkest is black
        over_white = over((255, 255, 255), one.image)
        opaque_there = alpha == 255
        assert np.abs(over_white - np.asarray(flat.image))[opaque_there].max() <= 1


def test_under_a_mask_the_source_stays_and_so_does_its_transparency() -> None:
    mask = draw_mask("box", (300, 200))
    (made,) = negative_of(asked(CLEAR, openai_mask(mask)))
    kept = np.asarray(made.image)[mask == 0]
    source = np.dstack([COFFEE, DISC])[mask == 0]
    assert np.array_equal(kept[..., 3], source[..., 3])
    clear = source[..., 3] == 255
    assert np.array_equal(kept[clear], source[clear])


def test_an_opaque_source_stays_opaque_and_nothing_is_kept_for_it() -> None:
    edit = asked(saved(Image.fromarray(COFFEE), "PNG"), detail="model")
    assert edit.finishing.source is None and edit.warnings == ()
    (made,) = negative_of(edit)
    assert made.image.mode == "RGB"


def test_a_source_is_transparent_upright() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = saved(Image.fromarray(np.rot90(np.dstack([COFFEE, DISC]))), "PNG", exif=exif)
    (made,) = negative_of(asked(turned))
    assert np.array_equal(np.asarray(made.image)[..., 3], DISC)
