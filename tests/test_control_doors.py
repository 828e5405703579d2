"""A control image through both doors: the second image of an edit, and the same faults."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine.catalogue import SD15_CANNY
from serve_app.config import ServeConfig
from tests.batch_jobs.manifests import decoded
from tests.batch_jobs.shapes import write_lines
from tests.conftest import photograph, png
from tests.serve_app.conftest import data_url
from tests.serve_app.test_several_images import Served

CANNY = replace(SD15_CANNY, resolution=64)
PHOTO = photograph("coffee")[100:164, 150:214]
FILE, DRAWN = png(PHOTO), png(PHOTO[::-1].copy())
FLAT = png(np.full((64, 64, 3), 128, np.uint8))
GOOD: list[tuple[list[bytes], dict[str, Any], list[str]]] = [
    ([FILE], {}, []),
    ([FILE], {"canny_low_threshold": 10, "canny_high_threshold": 30}, []),
    ([FILE, DRAWN], {"controlnet_conditioning_scale": 0.5, "strength": 0.5}, []),
    ([FLAT], {}, ["control_empty"]),
]
START = ("option_invalid", "control_guidance_start")
BAD: list[tuple[list[bytes], dict[str, Any], str, str]] = [
    ([FILE, png(PHOTO[:32])], {}, "option_invalid", "image"),
    ([FILE, DRAWN[:-99]], {}, "image_truncated", "image"),
    ([FILE], {"canny_low_threshold": 300}, "option_invalid", "canny_low_threshold"),
    ([FILE, DRAWN], {"canny_high_threshold": 300}, "option_invalid", "canny_high_threshold"),
    ([FILE], {"control_guidance_start": 0.5, "control_guidance_end": 0.2}, *START),
    ([FILE], {"control_guidance_end": 1.1}, "option_invalid", "control_guidance_end"),
    ([FILE], {"image_guidance_scale": 1.5}, "option_invalid", "image_guidance_scale"),
]


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    made = Served(CANNY, ServeConfig(decode_workers=1))
    yield made
    made.service.close()


def sent(served: Served, files: list[bytes], options: dict[str, Any]) -> tuple[int, dict[str, Any]]:
    images = [{"image_url": data_url(file)} for file in files]
    body = {"prompt": "in oil", "images": images, "seed": 7, **options}
    response = served.ask(lambda client: client.post("/v1/images/edits", json=body))
    return response.status_code, json.loads(response.text)


def rows(folder: Path, edits: list[tuple[list[bytes], dict[str, Any]]]) -> list[Any]:
    lines = [
        {
            "id": str(i),
            "image": [data_url(file) for file in files],
            "instruction": "in oil",
            **given,
        }
        for i, (files, given) in enumerate(edits)
    ]
    return decoded(write_lines(folder / "m.jsonl", lines), CANNY)


def test_both_doors_show_the_model_the_same_control_image(served: Served, tmp_path: Path) -> None:
    by_manifest = rows(tmp_path, [(files, options) for files, options, _ in GOOD])
    shown = []
    for (files, options, warnings), row in zip(GOOD, by_manifest, strict=True):
        status, answer = sent(served, files, options)
        assert status == 200, answer
        assert row.prepared is not None, row.entry.error_message
        assert list(row.entry.warnings) == warnings == (answer.get("warnings") or [])
        (mine,) = row.prepared.request.references
        (theirs,) = served.backend.requests[-1].references
        assert np.array_equal(mine, theirs)
        shown.append(mine.tobytes())
    assert len(set(shown)) == len(shown)


def test_both_doors_refuse_the_same_by_the_same_name(served: Served, tmp_path: Path) -> None:
    by_manifest = rows(tmp_path, [(files, options) for files, options, *_ in BAD])
    for (files, options, code, param), row in zip(BAD, by_manifest, strict=True):
        status, answer = sent(served, files, options)
        error = answer["error"]
        assert (status, error["code"], error["param"]) == (400, code, param), error
        assert (row.entry.error_code, row.entry.error_param) == (code, param)
        assert row.entry.error_message == error["message"]
