"""An output that cannot be is refused before anything starts."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from engine.errors import OutputUnusable
from storage.storage import Storage
from tests.conftest import jpeg, photograph


@pytest.mark.parametrize(
    ("output", "says"),
    [("", "the output is empty"), ("/proc/x", "/proc/x cannot be made"), ("a.jpg/out", "a.jpg")],
)
def test_a_job_without_a_place_for_its_output_ends_with_2(
    tmp_path: Path, output: str, says: str
) -> None:
    (tmp_path / "a.jpg").write_bytes(jpeg(photograph("coffee")))
    (tmp_path / "m.csv").write_text("image,instruction\na.jpg,make it night\n")
    command = [sys.executable, "-m", "batch_jobs", "m.csv", output]
    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert says in ended.stderr and len(ended.stderr.splitlines()) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.jpg", "m.csv"]


def test_the_uri_of_a_folder_is_that_folder(tmp_path: Path) -> None:
    folder = tmp_path / "夜 out"
    storage = Storage.open(folder.as_uri())
    storage.make()
    storage.publish("results/a", b"a")
    assert (folder / "results" / "a").read_bytes() == b"a"
    with pytest.raises(OutputUnusable, match=r"file://nas/out cannot be an output"):
        Storage.open("file://nas/out")
