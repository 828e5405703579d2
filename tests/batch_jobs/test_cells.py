"""A cell gives a picture as a path, a URI, a data URL, bytes or a struct of two of them."""

from __future__ import annotations

from typing import Any

import pytest

from batch_jobs.manifest.cells import Picture
from tests.batch_jobs.shapes import data_url

BYTES, EMPTY = {"bytes": b"png", "path": "x.png"}, {"bytes": b"", "path": "x.png"}


@pytest.mark.parametrize("column", ["image", "mask"])
@pytest.mark.parametrize(
    ("value", "path", "data"),
    [
        (None, None, None),
        ("", None, None),
        ("x.png", "x.png", None),
        ("s3://b/x.png", "s3://b/x.png", None),
        (data_url(b"png"), None, b"png"),
        (data_url(b"png").replace("data:", "DATA:"), None, b"png"),
        (b"png", None, b"png"),
        (BYTES, None, b"png"),
        (EMPTY, "x.png", None),
        ({"bytes": "no bytes", "path": "x.png"}, "x.png", None),
        ({"bytes": None, "path": data_url(b"png")}, None, b"png"),
        ({"bytes": None, "path": None}, None, None),
        ({}, None, None),
        ({"bytes": "cG5n"}, None, b"png"),
        ({"bytes": "cG\n5n", "path": None}, None, b"png"),
    ],
)
def test_a_cell_of_either_column_is_read_alike(
    column: Any, value: Any, path: str | None, data: bytes | None
) -> None:
    assert Picture.of(column, value) == Picture(path, data)


@pytest.mark.parametrize(
    ("value", "wanted"),
    [
        ("x.png", [Picture("x.png")]),
        (["x.png"], [Picture("x.png")]),
        (["x.png", b"png", BYTES], [Picture("x.png"), Picture(data=b"png"), Picture(data=b"png")]),
        ([], [Picture()]),
        ([None], [Picture()]),
        (None, [Picture()]),
    ],
)
def test_a_cell_may_hold_one_image_or_a_list_of_them(value: Any, wanted: list[Picture]) -> None:
    assert Picture.each(value) == wanted


@pytest.mark.parametrize(
    ("value", "number", "code"),
    [
        (["x.png", None, "y.png"], 2, "image_missing"),
        (["", "x.png", "y.png"], 1, "image_missing"),
        (["x.png", "y.png", 7], 3, "image_missing"),
        (["x.png", ["y.png"], "z.png"], 2, "image_missing"),
        (["x.png", "y.png", "\ud83d"], 3, "image_not_found"),
        (["x.png", "data:image/png;base64,!", b"png"], 2, "image_unreadable"),
    ],
)
def test_what_is_no_image_of_a_list_is_named_by_its_place(
    value: Any, number: int, code: str
) -> None:
    errors = [picture.error for picture in Picture.each(value)]
    (error,) = filter(None, errors)
    assert error.code == code and error.message.startswith(f"image {number} of 3: ")
    assert errors.index(error) == number - 1


@pytest.mark.parametrize("value", [b"", {"bytes": b"", "path": None}])
def test_no_bytes_are_no_image_but_a_mask_that_is_wrong(value: Any) -> None:
    """Who gave a mask does not want the whole picture edited."""
    assert Picture.of("image", value) == Picture()
    assert Picture.of("mask", value) == Picture(data=b"")


@pytest.mark.parametrize(
    ("value", "code", "says"),
    [
        ([1], "mask_invalid", "mask must be a path or URI; got [1]"),
        ("\ud83d", "image_not_found", "mask is not valid Unicode"),
        ("data:image/png;base64,!", "image_unreadable", "not valid base64"),
    ],
)
def test_what_is_no_picture_says_whose_cell_it_is(value: Any, code: str, says: str) -> None:
    error = Picture.of("mask", value).error
    assert error is not None and (error.code, error.param) == (code, "mask")
    assert says in error.message


@pytest.mark.parametrize(
    ("value", "code", "says"),
    [
        (
            {"bytes": "no base64!"},
            "image_unreadable",
            'image.bytes is not base64; got "no base64!"',
        ),
        ({"url": "x.png"}, "image_missing", 'must be a path or URI; got {"url": "x.png"}'),
    ],
)
def test_an_object_that_holds_no_image_says_what_it_holds(value: Any, code: str, says: str) -> None:
    error = Picture.of("image", value).error
    assert error is not None and (error.code, error.param) == (code, "image")
    assert says in error.message
