"""With `--check-sources` an image is what storage says of it, not only its name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from batch_jobs.manifest.source_versions import source_versions
from engine.errors import ManifestInvalid
from tests.batch_jobs.jobs import CONFIG, good_rows, job_here


def test_a_picture_that_changed_is_used_again_only_with_check_sources(
    manifest: Callable[..., str], tmp_path: Path
) -> None:
    rows = good_rows(4)
    rows[2]["mask"], rows[3]["mask"] = "chelsea.png", "none.png"
    rows = [{**row, "image": [row["image"]]} for row in rows]
    rows[0]["image"] += ["further.png", "none.png"]
    (tmp_path / "further.png").write_bytes(b"a further image")
    (tmp_path / "chelsea.png").write_bytes(b"a mask")
    path = manifest(rows)

    def prints(check: bool) -> dict[str, str]:
        config = CONFIG.model_copy(update={"check_sources": check})
        plan = job_here(path, tmp_path / "out", config).plan.rows
        return dict(zip(plan["id"].to_pylist(), plan["fingerprint"].to_pylist(), strict=True))

    before, checked = prints(False), prints(True)
    assert all(before[id] != checked[id] for id in before)
    coffee = tmp_path / "coffee.jpg"
    coffee.write_bytes(coffee.read_bytes() + b"one more byte")
    assert prints(False) == before
    assert [id for id, print in prints(True).items() if print != checked[id]] == ["row-1"]
    coffee.unlink()
    assert [id for id, print in prints(True).items() if print != checked[id]] == ["row-1"]
    checked = prints(True)
    (tmp_path / "chelsea.png").write_bytes(b"another mask")
    assert prints(False) == before
    assert [id for id, print in prints(True).items() if print != checked[id]] == ["row-2"]
    checked = prints(True)
    (tmp_path / "further.png").write_bytes(b"another further image")
    assert prints(False) == before
    assert [id for id, print in prints(True).items() if print != checked[id]] == ["row-0"]


def test_an_image_that_storage_says_nothing_of_is_not_taken_for_absent(tmp_path: Path) -> None:
    (tmp_path / "loop.jpg").symlink_to("loop.jpg")
    (tmp_path / "file").touch()
    absent = ["none.jpg", "file/x.jpg", "nul\0.jpg", "http://127.0.0.1:9/x.jpg", "loop.jpg"]
    assert source_versions([*absent, None], str(tmp_path)) == ["absent"] * 5 + [None]
    # gcsfs is not installed with rayedit
    with pytest.raises(ManifestInvalid, match=r"--check-sources: .* gs://b/x.jpg has changed: "):
        source_versions([*absent, "gs://b/x.jpg"], str(tmp_path))
