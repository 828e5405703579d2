"""What comes back has the source's detail, and keeps what nobody asked to change."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable, Iterator

import cv2
import numpy as np
import pytest
from PIL import Image

from engine import finishing
from engine.finishing import Canvases, Finished, Wanted, source_at_output
from engine.finishing import finish as finish_image
from engine.geometry import Geometry, from_canvas, plan_geometry, to_canvas
from engine.images import encode
from engine.masks import mask_to_output
from engine.options import EditOptions
from engine.preserve import VISIBLE, EditMap
from engine.registry import MODELS
from tests.conftest import photograph
from training.kinds import KINDS

POCKET = MODELS["pocket"]
RESTORED = EditOptions(restore_size=True)
GEOMETRIES = [
    RESTORED,
    EditOptions(),
    EditOptions(resize="crop"),
    EditOptions(resize="pad"),
    EditOptions(resize="pad", restore_size=True),
    EditOptions(size="256x128", restore_size=True),
]

Edit = Callable[[np.ndarray], np.ndarray]


def warm(pixels: np.ndarray) -> np.ndarray:
    """A global edit: a function of colour."""
    matrix = np.array([[0.9, 0.1, 0], [0.1, 0.7, 0], [0, 0.1, 0.4]])
    return np.clip(pixels @ matrix + (30, 10, 0), 0, 255).astype(np.uint8)


def grey(pixels: np.ndarray) -> np.ndarray:
    """A global edit that grey pixels, two thirds of some photographs, do not show."""
    return np.repeat(pixels.mean(axis=-1, keepdims=True), 3, axis=-1).astype(np.uint8)


def duller(pixels: np.ndarray) -> np.ndarray:
    """A global edit that is faint in most pixels: two fifths of the colour less."""
    brightness = pixels.mean(axis=-1, keepdims=True)
    return (pixels + 0.4 * (brightness - pixels)).astype(np.uint8)


def vivid(pixels: np.ndarray) -> np.ndarray:
    """A global edit that leaves what is grey alone: four fifths more of the colour."""
    brightness = pixels.mean(axis=-1, keepdims=True)
    return np.clip(brightness + 1.8 * (pixels - brightness), 0, 255).astype(np.uint8)


def out_of_focus(pixels: np.ndarray) -> np.ndarray:
    """A global edit that plain surfaces do not show."""
    return cv2.GaussianBlur(pixels, (0, 0), 3)


def blocks(pixels: np.ndarray) -> np.ndarray:
    """A global edit that changes each pixel a little: 8 x 8 of them in one colour."""
    size = (pixels.shape[1], pixels.shape[0])
    small = cv2.resize(pixels, (size[0] // 8, size[1] // 8), interpolation=cv2.INTER_AREA)
    return cv2.resize(small, size, interpolation=cv2.INTER_NEAREST)


def sepia(pixels: np.ndarray) -> np.ndarray:
    """A global edit that next to nothing of a dark photograph shows."""
    brightness = pixels.mean(axis=-1, keepdims=True) * 0.9 + 13
    return np.clip(brightness * (1.12, 0.88, 0.6), 0, 255).astype(np.uint8)


def upper_pink(pixels: np.ndarray) -> np.ndarray:
    """A local edit: the upper third in pink."""
    edited = pixels.copy()
    rows = len(pixels) // 3
    grey = pixels[:rows].mean(axis=-1, keepdims=True)
    edited[:rows] = (grey * (1.0, 0.5, 0.8)).astype(np.uint8)
    return edited


def blank(pixels: np.ndarray) -> np.ndarray:
    """An edit that takes all structure away from the left half."""
    edited = pixels.copy()
    edited[:, : edited.shape[1] // 2] = 90
    return edited


def canvases_of(canvas: np.ndarray, edit: Edit, noise: float = 4.0) -> Canvases:
    """A model that does `edit` with some noise, and an autoencoder that blurs."""
    random = np.random.default_rng(0)
    blurred = cv2.GaussianBlur(canvas, (0, 0), 0.7)
    edited = edit(blurred) + random.normal(0, noise, canvas.shape)
    return Canvases(canvas, blurred, np.clip(edited, 0, 255).astype(np.uint8))


def prepared(name: str, options: EditOptions) -> tuple[np.ndarray, np.ndarray, Geometry]:
    """Source, canvas and geometry of a photograph."""
    source = photograph(name)
    geometry = plan_geometry((source.shape[1], source.shape[0]), options, POCKET)
    return source, to_canvas(Image.fromarray(source), geometry), geometry


def finish(canvases: Canvases, source: np.ndarray, geometry: Geometry, wanted: Wanted) -> Finished:
    return finish_image(canvases, Image.fromarray(source), geometry, wanted)


def psnr(first: np.ndarray, second: np.ndarray) -> float:
    return float(10 * np.log10(255**2 / np.mean((first.astype(float) - second) ** 2)))


@pytest.fixture
def threads_of_opencv() -> Iterator[None]:
    before = cv2.getNumThreads()
    yield
    cv2.setNumThreads(before)


@pytest.mark.parametrize("name", ["astronaut", "coffee", "rocket"])
def test_detail_that_the_canvas_never_had_comes_back_edited(name: str) -> None:
    source, canvas, geometry = prepared(name, RESTORED)
    made = canvases_of(canvas, warm)
    plain = finish(made, source, geometry, Wanted())
    detailed = finish(made, source, geometry, Wanted(detail=True))
    assert plain.pixels.shape == detailed.pixels.shape == source.shape
    assert psnr(detailed.pixels, warm(source)) > psnr(plain.pixels, warm(source)) + 4


def test_where_an_edit_takes_structure_away_nothing_is_given_back() -> None:
    source, canvas, geometry = prepared("chelsea", RESTORED)
    pixels = finish(canvases_of(canvas, blank), source, geometry, Wanted(detail=True)).pixels
    left = pixels[:, : source.shape[1] // 2 - 40].astype(float)
    assert source[:, : source.shape[1] // 2 - 40].std() > 30
    assert np.abs(left - 90).mean() < 4 and left.std() < 6


def test_on_the_canvas_itself_detail_undoes_the_autoencoders_blur() -> None:
    source, canvas, geometry = prepared("coffee", EditOptions())
    made = canvases_of(canvas, warm, noise=1)
    shown = np.asarray(source_at_output(Image.fromarray(source), canvas, geometry))
    assert np.array_equal(shown, canvas)
    detailed = finish(made, shown, geometry, Wanted(detail=True)).pixels
    assert psnr(detailed, warm(canvas)) > psnr(made.edited, warm(canvas)) + 3


@pytest.mark.parametrize("options", GEOMETRIES)
def test_nothing_wanted_is_the_models_own_picture(options: EditOptions) -> None:
    source, canvas, geometry = prepared("rocket", options)
    made = canvases_of(canvas, warm)
    finished = finish(
        made,
        np.asarray(source_at_output(Image.fromarray(source), canvas, geometry)),
        geometry,
        Wanted(),
    )
    assert np.array_equal(finished.pixels, np.asarray(from_canvas(made.edited, geometry)))
    assert finished.warnings == ()


@pytest.mark.parametrize("options", GEOMETRIES)
@pytest.mark.parametrize("preserve", [False, True])
@pytest.mark.parametrize("detail", [False, True])
def test_no_byte_under_the_mask_differs_from_the_source(
    options: EditOptions, detail: bool, preserve: bool
) -> None:
    source, canvas, geometry = prepared("coffee", options)
    shown = np.asarray(source_at_output(Image.fromarray(source), canvas, geometry))
    mask = np.zeros(source.shape[:2], np.uint8)
    mask[50:200, 300:] = 255  # it touches the border
    mask[210, :] = 255  # a thin stroke
    mask[220:300, 50:100] = np.linspace(0, 255, 50).astype(np.uint8)  # soft
    output = mask_to_output(mask, geometry)
    wanted = Wanted(detail, preserve, output)
    finished = finish(canvases_of(canvas, warm), shown, geometry, wanted)
    assert finished.pixels.shape == shown.shape and finished.report.outside_change == 0
    assert np.array_equal(finished.pixels[output == 0], shown[output == 0])
    assert (finished.pixels[output == 255] != shown[output == 255]).mean() > 0.5


@pytest.mark.parametrize("name", ["astronaut", "coffee", "chelsea"])
def test_what_a_local_edit_did_not_touch_is_the_source_byte_for_byte(name: str) -> None:
    source, canvas, geometry = prepared(name, RESTORED)
    made = canvases_of(canvas, upper_pink)
    finished = finish(made, source, geometry, Wanted(detail=True, preserve=True))
    third = len(source) // 3
    same = (finished.pixels == source).all(axis=-1)
    assert finished.warnings == () and finished.report.outside_change == 0
    assert same[third + 30 :].mean() > 0.99
    assert same[: third - 30].mean() < 0.15
    assert 0.2 < finished.report.changed_share < 0.45
    detailed = finish(made, source, geometry, Wanted(detail=True))
    assert 0 < detailed.report.outside_change < 15
    assert psnr(finished.pixels[third:], source[third:]) > psnr(
        detailed.pixels[third:], source[third:]
    )


@pytest.mark.parametrize("edit", [warm, grey, vivid, out_of_focus, blocks, sepia])
@pytest.mark.parametrize("name", ["astronaut", "coffee", "rocket", "hubble_deep_field"])
def test_a_global_edit_keeps_nothing_and_says_so(name: str, edit: Edit) -> None:
    source, canvas, geometry = prepared(name, RESTORED)
    made = canvases_of(canvas, edit)
    finished = finish(made, source, geometry, Wanted(detail=True, preserve=True))
    detailed = finish(made, source, geometry, Wanted(detail=True))
    assert finished.warnings == ("edit_is_global",)
    assert np.array_equal(finished.pixels, detailed.pixels)


@pytest.mark.parametrize("name", ["chelsea", "rocket"])
def test_an_edit_that_is_mostly_faint_is_not_taken_back(name: str) -> None:
    source, canvas, geometry = prepared(name, RESTORED)
    made = canvases_of(canvas, duller)
    finished = finish(made, source, geometry, Wanted(detail=True, preserve=True))
    detailed = finish(made, source, geometry, Wanted(detail=True))
    assert detailed.report.changed_share < 0.05  # what counts as edited is next to nothing
    assert finished.warnings == ("edit_is_global",)
    assert np.array_equal(finished.pixels, detailed.pixels)


@pytest.mark.parametrize("name, kind", [("coffee", "autumn"), ("rocket", "keep_red")])
def test_an_edit_that_is_faint_in_part_of_the_picture_is_not_taken_back_there(
    name: str, kind: str
) -> None:
    source, canvas, geometry = prepared(name, RESTORED)
    made = canvases_of(canvas, lambda pixels: (unit_edit(kind, pixels) * 255).astype(np.uint8))
    true = unit_edit(kind, source) * 255
    finished = finish(made, source, geometry, Wanted(detail=True, preserve=True))
    detailed = finish(made, source, geometry, Wanted(detail=True))
    assert psnr(finished.pixels, true) >= psnr(detailed.pixels, true)


def unit_edit(kind: str, pixels: np.ndarray) -> np.ndarray:
    """(H, W, 3) uint8 -> one of pocket's true edits in 0..1."""
    return KINDS[kind].apply(pixels.astype(np.float32) / 255)


def test_a_bright_sky_in_another_colour_is_a_local_edit() -> None:
    source = photograph("coffee") // 3
    third = len(source) // 3
    source[:third] += 140  # all that is bright changes, nothing else: one function of colour
    geometry = plan_geometry((source.shape[1], source.shape[0]), RESTORED, POCKET)
    made = canvases_of(to_canvas(Image.fromarray(source), geometry), upper_pink)
    finished = finish(made, source, geometry, Wanted(detail=True, preserve=True))
    assert finished.warnings == ()
    assert (finished.pixels == source).all(axis=-1)[third + 30 :].mean() > 0.99


def test_a_change_of_colour_counts_sooner_than_one_of_brightness_as_large() -> None:
    found = EditMap(np.zeros((3, 1, 1), np.float32), VISIBLE, 0.0, 0.0, is_global=False)
    brightness, colour = np.array([[16, 16, 16], [16, -16, 16]], np.float32)[..., None, None]
    assert found.share(brightness) == 0 and found.share(colour) > 0


@pytest.mark.parametrize("name", ["camera", "moon"])
def test_a_photograph_without_colours_has_none_to_lose(name: str) -> None:
    source = np.repeat(photograph(name)[..., None], 3, axis=-1)
    geometry = plan_geometry((source.shape[1], source.shape[0]), RESTORED, POCKET)
    made = canvases_of(to_canvas(Image.fromarray(source), geometry), upper_pink)
    finished = finish(made, source, geometry, Wanted(detail=True, preserve=True))
    assert finished.warnings == ()
    assert (finished.pixels == source).all(axis=-1)[len(source) // 3 + 30 :].mean() > 0.99


def test_an_edit_that_did_nothing_gives_the_source_back() -> None:
    source, canvas, geometry = prepared("coffee", RESTORED)
    made = canvases_of(canvas, lambda pixels: pixels)
    for detail in (False, True):
        finished = finish(made, source, geometry, Wanted(detail, preserve=True))
        assert finished.report.changed_share < 0.01 and finished.warnings == ()
        assert (finished.pixels == source).all(axis=-1).mean() > 0.98


def test_a_shift_of_the_whole_picture_is_no_edit_of_it() -> None:
    source, canvas, geometry = prepared("chelsea", RESTORED)

    def shifted(pixels: np.ndarray) -> np.ndarray:
        return np.clip(upper_pink(pixels) + np.array([14.0, -14.0, 14.0]), 0, 255).astype(np.uint8)

    made = canvases_of(canvas, shifted)
    finished = finish(made, source, geometry, Wanted(detail=True, preserve=True))
    third = len(source) // 3
    assert (finished.pixels == source).all(axis=-1)[third + 30 :].mean() > 0.95


@pytest.mark.parametrize("options", [RESTORED, EditOptions(resize="pad")])
@pytest.mark.parametrize("edit", [warm, upper_pink])
def test_neither_bands_nor_threads_change_a_bit(
    options: EditOptions,
    edit: Edit,
    monkeypatch: pytest.MonkeyPatch,
    threads_of_opencv: None,
) -> None:
    source, canvas, geometry = prepared("rocket", options)
    made = canvases_of(canvas, edit)
    shown = np.asarray(source_at_output(Image.fromarray(source), canvas, geometry))
    mask = np.full(shown.shape[:2], 200, np.uint8)
    results = []
    for pixels, threads in ((1, 1), (5000, 2), (2**14, 4), (10**9, 1)):
        monkeypatch.setattr(finishing, "BAND_PIXELS", pixels)
        cv2.setNumThreads(threads)
        results.append(finish(made, shown, geometry, Wanted(True, True, mask)).pixels)
    assert all(np.array_equal(results[0], other) for other in results[1:])


@pytest.mark.parametrize("detail", [True, False])
def test_an_array_and_pillows_image_are_finished_and_written_alike(detail: bool) -> None:
    """Into a picture of its own, and into its source."""
    source, canvas, geometry = prepared("rocket", RESTORED)
    made, wanted = canvases_of(canvas, upper_pink), Wanted(detail, preserve=True)
    results = []
    for kind in (np.copy, Image.fromarray):
        picture = kind(source)
        results.append(finish_image(made, picture, geometry, wanted))
        results.append(finish_image(made, picture, geometry, wanted, into=picture))
    for format in ("png", "jpeg", "webp"):
        assert len({encode(result.picture, format) for result in results}) == 1
    assert np.array_equal(results[0].pixels, results[1].pixels)


@pytest.mark.parametrize("size", [(16, 16), (40, 30), (129, 127), (128, 128)])
def test_a_source_smaller_than_its_canvas_comes_back_at_its_size(size: tuple[int, int]) -> None:
    source = np.asarray(Image.fromarray(photograph("coffee")).resize(size))
    geometry = plan_geometry(size, RESTORED, POCKET)
    made = canvases_of(to_canvas(Image.fromarray(source), geometry), warm, noise=1)
    pixels = finish(made, source, geometry, Wanted(detail=True)).pixels
    assert pixels.shape == source.shape
    assert psnr(pixels, warm(source)) > 30


def test_a_large_source_takes_little_memory_beside_the_result() -> None:
    source = np.asarray(Image.fromarray(photograph("coffee")).resize((4242, 2828)))
    geometry = plan_geometry((4242, 2828), RESTORED, POCKET)
    made = canvases_of(to_canvas(Image.fromarray(source), geometry), upper_pink)
    mask = np.full(source.shape[:2], 200, np.uint8)
    tracemalloc.start()
    finish(made, source, geometry, Wanted(True, True, mask))
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak_bytes < source.nbytes + 24 * 2**20
