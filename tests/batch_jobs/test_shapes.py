"""DataFlow's JSONL, OpenAI's Batch JSONL and data URLs are manifests like any other."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from batch_jobs.manifest.plan import read_manifest
from batch_jobs.manifest.rows import planned_options
from engine import errors
from engine.options import EditOptions
from engine.wire import EditBody
from tests.batch_jobs.shapes import POCKET, batch_line, data_url, embedded, fault, write_lines


def test_dataflow_lines_are_rows(tmp_path: Path) -> None:
    say = lambda *texts: [{"role": "user", "content": text} for text in texts]  # noqa: E731
    lines = [
        {"images": "image.png", "conversations": say("Make it vibrant.")},
        {"conversations": say("a sunset", "add birds"), "images": ["b/image.png"], "seed": 7},
        {"images": ["a.png", "b.png"], "conversations": say("swap them")},
        {"images": "a.png", "conversations": []},
    ]
    plan = read_manifest(write_lines(tmp_path / "prompts.jsonl", lines))
    assert plan["image"].to_pylist() == ["image.png", "b/image.png", None, "a.png"]
    assert plan["instruction"].to_pylist()[:3] == ["Make it vibrant.", "add birds", "swap them"]
    assert plan["id"].to_pylist() == [f"prompts.jsonl-0-{i}" for i in range(4)]
    good = plan["options"].to_pylist()[:2]
    assert [planned_options(planned, POCKET).seed for planned in good] == [None, 7]
    two, none = (fault(planned) for planned in plan["options"].to_pylist()[2:])
    assert two.code == "option_invalid" and "one image at a time; got 2" in two.message
    assert none.code == "instruction_empty" and "conversations must be such as" in none.message


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
    first = planned_options(plan["options"][0].as_py(), POCKET)
    assert (first.num_images, first.size, first.seed) == (2, "64x64", 5)
    assert embedded(plan) == {0: images[0], 1: images[1]}


@pytest.mark.parametrize(
    ("body", "code", "says"),
    [
        ({"mask": "x"}, "option_invalid", "does not support mask"),
        ({"quality": "high"}, "option_invalid", "quality: leave it out or send 'auto'"),
        ({"output_format": "jpeg"}, "option_invalid", "a job publishes PNG files"),
        ({"stream": True}, "option_invalid", "stream"),
        ({"n": 9}, "option_invalid", "n: must be less than or equal to 4"),
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
    bad, good = read_manifest(write_lines(tmp_path / "m.jsonl", lines))["options"].to_pylist()
    assert fault(bad).code == code and says in fault(bad).message
    assert planned_options(good, POCKET) == EditOptions()


def test_data_urls_are_images_in_jsonl_and_in_parquet(tmp_path: Path) -> None:
    rows = [
        {"id": "a", "image": data_url(b"bytes"), "instruction": "add fog"},
        {"id": "b", "image": "x.jpg", "instruction": "add fog"},
        {"id": "c", "image": "data:image/png;base64,!", "instruction": "add fog"},
    ]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "m.parquet")
    write_lines(tmp_path / "m.jsonl", rows)
    for name in ("m.parquet", "m.jsonl"):
        plan = read_manifest(str(tmp_path / name))
        assert embedded(plan) == {0: b"bytes"}
        assert plan["image"].to_pylist() == [None, "x.jpg", None]
        assert fault(plan["options"][2].as_py()).code == "image_unreadable"


@pytest.mark.parametrize("half", ["\ud83d", "make it \ude00 night"])
def test_half_a_character_is_refused_as_the_server_refuses_it(tmp_path: Path, half: str) -> None:
    lines = [
        {"image": "a.jpg", "instruction": half},
        {"image": half, "instruction": "make it night"},
        {"image": "a.jpg", "instruction": "make it night", "negative_prompt": half},
        {"image": "a.jpg", "instruction": "add \ud83d\ude00"},
    ]
    plan = read_manifest(write_lines(tmp_path / "columns.jsonl", lines))
    instruction, image, option, _ = plan["options"].to_pylist()
    requests = [batch_line("a", "a.jpg", prompt=half)]
    batch = read_manifest(write_lines(tmp_path / "batch.jsonl", requests))["options"].to_pylist()
    with pytest.raises(errors.InstructionEmpty) as online:
        EditBody.parse({"prompt": half}).instruction()
    for planned in (instruction, *batch):
        assert (fault(planned).code, fault(planned).message) == (
            online.value.code,
            online.value.message,
        )
    assert (fault(image).code, fault(image).param) == ("image_not_found", "image")
    assert (fault(option).code, fault(option).param) == ("option_invalid", "negative_prompt")
    assert plan["instruction"].to_pylist()[3] == "add 😀"
    named = [{"id": half, "image": "a.jpg", "instruction": "make it night"}]
    with pytest.raises(errors.ManifestInvalid, match="line 1: id is not valid Unicode"):
        read_manifest(write_lines(tmp_path / "named.jsonl", named))
