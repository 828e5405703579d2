"""DataFlow's JSONL is a manifest like any other."""

from __future__ import annotations

from pathlib import Path

from batch_jobs.manifest.plan import read_manifest
from tests.batch_jobs.shapes import fault, options, planned, write_lines


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
    assert [edit.seed for edit in options(plan[:2])] == [None, 7]
    two, none = map(fault, planned(plan)[2:])
    assert two.code == "option_invalid" and "one image at a time; got 2" in two.message
    assert none.code == "instruction_empty" and "conversations must be such as" in none.message
