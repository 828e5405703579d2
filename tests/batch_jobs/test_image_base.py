"""`image_base` is where relative images start; `image_root` is a fence, and moves nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from batch_jobs.stopping import Exit
from engine.errors import OutputUnusable
from tests.batch_jobs.jobs import CONFIG, job_here, ledger, run_here
from tests.batch_jobs.shapes import write_lines


@pytest.fixture
def shop(tmp_path: Path, photographs: dict[str, bytes]) -> Path:
    """A manifest in one folder, its images in another."""
    for folder in ("lists", "photos", "others"):
        (tmp_path / folder).mkdir()
    (tmp_path / "photos" / "a.jpg").write_bytes(photographs["coffee"])
    (tmp_path / "others" / "a.jpg").write_bytes(photographs["rocket"])
    write_lines(tmp_path / "lists" / "m.jsonl", [{"image": "a.jpg", "instruction": "add fog"}])
    return tmp_path


def test_relative_images_start_from_the_base(shop: Path) -> None:
    config = CONFIG.model_copy(update={"image_base": str(shop / "photos")})
    manifest, out = str(shop / "lists" / "m.jsonl"), shop / "out"
    assert run_here(manifest, out, config) == Exit.OK
    (row,) = ledger(out).values()
    assert row["source"] == "a.jpg"
    assert run_here(manifest, out, config) == Exit.OK
    moved = CONFIG.model_copy(update={"image_base": str(shop / "others")})
    says = rf"edits of the images in {shop}/photos, not of those in {shop}/others"
    with pytest.raises(OutputUnusable, match=says):
        job_here(manifest, out, moved).run()


def test_the_root_is_a_fence_and_no_base(shop: Path) -> None:
    fence = {"image_root": str(shop / "photos")}
    manifest = str(shop / "lists" / "m.jsonl")
    config = CONFIG.model_copy(update=fence)
    assert run_here(manifest, shop / "one", config) == Exit.FAILED_ROWS
    (row,) = ledger(shop / "one").values()
    assert row["error_code"] == "image_source_refused"
    both = CONFIG.model_copy(update=fence | {"image_base": str(shop / "photos")})
    assert run_here(manifest, shop / "two", both) == Exit.OK
