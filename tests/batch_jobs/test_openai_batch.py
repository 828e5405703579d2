"""OpenAI's Batch JSONL is a manifest like any other."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest

from batch_jobs.manifest.plan import read_manifest
from engine.options import EditOptions
from tests.batch_jobs.shapes import (
    POCKET,
    batch_line,
    data_url,
    embedded,
    embedded_masks,
    fault,
    options,
    planned,
    write_lines,
)


def test_openai_batch_lines_are_rows_and_their_images_stay_in_the_file(tmp_path: Path) -> None:
    images = [b"first image", b"second"]
    extra = {"n": 2, "size": "64x64", "seed": 5, "quality": "auto", "model": "pocket"}
    lines = [
        batch_line("a", data_url(images[0]), **extra),
        batch_line("b", data_url(images[1]), prompt="加雾"),
        batch_line("c", "photos/c.jpg"),
    ]
    plan = read_manifest(write_lines(tmp_path / "batch.jsonl", lines))
    assert plan["id"].to_pylist() == ["a", "b", "c"]
    assert plan["instruction"].to_pylist() == ["make it night", "加雾", "make it night"]
    assert plan["image"].to_pylist() == [None, None, "photos/c.jpg"]
    assert plan["image_sha256"].to_pylist()[:2] == [hashlib.sha256(i).hexdigest() for i in images]
    assert plan["model"].to_pylist() == ["pocket", None, None]
    first = options(plan)[0]
    assert (first.num_images, first.size, first.seed) == (2, "64x64", 5)
    assert embedded(plan) == {0: images[0], 1: images[1]}


@pytest.mark.parametrize(
    ("body", "code", "says"),
    [
        ({"mask": "x"}, "option_invalid", "mask: must be"),
        ({"quality": "hd"}, "option_invalid", "quality: must be 'low'"),
        ({"output_format": "jpeg"}, "option_invalid", "a job publishes PNG files"),
        ({"stream": True}, "option_invalid", "stream"),
        ({"n": 11}, "option_invalid", "n: must be less than or equal to 10"),
        ({"seed": True}, "option_invalid", "seed: must be a valid integer"),
        ({"guidence_scale": 5}, "option_unknown", 'mean "guidance_scale"'),
        ({"model": "gpt-image-1"}, "model_not_found", 'the job runs "pocket"'),
        ({"images": []}, "image_missing", "images is missing"),
        ({"images": [{"file_id": "f"}]}, "image_source_refused", "file_id"),
        ({"images": [{"image_url": "data:image/png;base64,?"}]}, "image_unreadable", "base64"),
        ({"prompt": 5}, "option_invalid", "prompt: must be a valid string"),
    ],
)
def test_what_is_wrong_with_a_body_is_wrong_with_its_row_alone(
    tmp_path: Path, body: dict[str, Any], code: str, says: str
) -> None:
    lines = [batch_line("bad", "x.jpg", **body), batch_line("good", "y.jpg")]
    bad, good = planned(read_manifest(write_lines(tmp_path / "m.jsonl", lines)))
    assert fault(bad).code == code and says in fault(bad).message
    assert good.edit_options(POCKET) == EditOptions()


def test_the_mask_of_a_body_is_its_rows_mask(tmp_path: Path) -> None:
    lines = [
        batch_line("held", "x.jpg", mask={"image_url": data_url(b"a mask")}),
        batch_line("broken", "x.jpg", mask={"image_url": "data:image/png;base64,?"}),
        batch_line("free", "x.jpg"),
    ]
    plan = read_manifest(write_lines(tmp_path / "m.jsonl", lines))
    held, broken, free = planned(plan)
    assert held.mask_sha256 == hashlib.sha256(b"a mask").hexdigest()
    assert embedded_masks(plan) == {0: b"a mask"}
    assert (fault(broken).code, fault(broken).param) == ("image_unreadable", "mask")
    assert free.mask is free.mask_sha256 is None
