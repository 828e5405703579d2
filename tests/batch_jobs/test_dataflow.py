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
    assert plan["image"].to_pylist() == ["image.png", "b/image.png", "a.png", "a.png"]
    further = [[one["path"] for one in row] for row in plan["references"].to_pylist()]
    assert further == [[], [], ["b.png"], []]
    assert plan["instruction"].to_pylist()[:3] == ["Make it vibrant.", "add birds", "swap them"]
    assert plan["id"].to_pylist() == [f"prompts.jsonl-0-{i}" for i in range(4)]
    assert [edit.seed for edit in options(plan[:3])] == [None, 7, None]
    none = fault(planned(plan)[3])
    assert none.code == "instruction_empty" and "conversations must be such as" in none.message
