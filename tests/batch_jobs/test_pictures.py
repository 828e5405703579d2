"""A folder of pictures and a sentence are a job: every picture is a row, whatever its name."""

from __future__ import annotations

import os
from pathlib import Path

import fsspec
import pytest
from typer.testing import CliRunner

from batch_jobs.config import JobConfig
from batch_jobs.manifest.plan import Manifest, open_manifest, read_manifest
from batch_jobs.manifest.reading import Reading
from batch_jobs.stopping import Exit
from batch_jobs.validation.check import ManifestCheck
from cli.main import app
from engine.errors import InstructionEmpty, ManifestInvalid
from tests.batch_jobs.jobs import CONFIG, job_here, ledger
from tests.batch_jobs.manifests import POCKET
from tests.batch_jobs.shapes import fault, planned

NIGHT, FOG = "make it night", "加一层雾"
SCRIPTS = ("photo", "夜景", "фото", "صورة", "फोटो")  # Latin, Han, Cyrillic, Arabic, Devanagari
SIGNS = (" 1", "#2", "%20", "a\nb", "&?*[x]", "'\"", ":", "=", "é", "")


def pictures(folder: str | Path, *instructions: str, glob: str | None = None) -> Manifest:
    return open_manifest(str(folder), Reading(instructions or (NIGHT,), glob))


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"")


@pytest.fixture(scope="module")
def thousand(tmp_path_factory: pytest.TempPathFactory, photographs: dict[str, bytes]) -> Path:
    """1,000 pictures in 30 folders, their names in five scripts, with every sign that hurts."""
    folder = tmp_path_factory.mktemp("shop")
    (folder / "first.jpg").write_bytes(photographs["coffee"])
    for number in range(1000):
        script, sign = SCRIPTS[number % 5], SIGNS[number // 5 % 10]
        shelf = folder / f"{script} {number % 30}{sign if number % 30 < 10 else ''}"
        shelf.mkdir(exist_ok=True)
        os.link(folder / "first.jpg", shelf / f"{script}{sign}{number}.JPG")
    (folder / "first.jpg").unlink()
    return folder


def test_a_thousand_pictures_of_any_name_are_a_thousand_rows(thousand: Path) -> None:
    assert len(list(thousand.iterdir())) >= 30
    manifest = pictures(thousand)
    there = {str(path.relative_to(thousand)) for path in thousand.rglob("*.JPG")}
    assert len(there) == len(manifest.plan) == 1000
    assert set(manifest.plan["image"].to_pylist()) == there
    assert set(manifest.plan["id"].to_pylist()) == there
    check = ManifestCheck(manifest, JobConfig(instruction=(NIGHT,)), POCKET)
    check.check_rows()
    check.check_images(50)
    assert (check.problems, manifest.notes) == ([], [])
    assert check.images_opened >= 50


def test_every_instruction_edits_every_picture_and_ids_stay_when_one_is_added(
    tmp_path: Path,
) -> None:
    touch(tmp_path, "a.jpg", "sub/b.png")
    one, two = pictures(tmp_path).plan, pictures(tmp_path, NIGHT, FOG).plan
    assert one["id"].to_pylist() == ["a.jpg", "sub/b.png"]
    assert two["id"].to_pylist() == ["a.jpg", "a.jpg#2", "sub/b.png", "sub/b.png#2"]
    assert two["image"].to_pylist() == ["a.jpg", "a.jpg", "sub/b.png", "sub/b.png"]
    assert two["instruction"].to_pylist() == [NIGHT, FOG] * 2


def test_what_is_no_picture_is_counted_and_named(tmp_path: Path) -> None:
    touch(tmp_path, "a.jpg", "b.HEIC", "notes.txt", "sub/c.txt", "sub/film.mp4", ".DS_Store", "x")
    manifest = pictures(tmp_path)
    assert manifest.plan["id"].to_pylist() == ["a.jpg", "b.HEIC"]
    (note,) = manifest.notes
    told = "no pictures, left out: 2 .txt, 1 hidden, 1 .mp4, 1 without ending, such as notes.txt"
    assert note == f"{tmp_path}: {told}"


def test_the_output_of_a_job_in_the_folder_is_not_edited_again(tmp_path: Path) -> None:
    touch(tmp_path, "a.jpg", "out/job.json", "out/images/8c/8c.png", "job.json", "images/b.jpg")
    manifest = pictures(tmp_path)
    assert manifest.plan["id"].to_pylist() == ["a.jpg", "images/b.jpg"]
    assert f"{tmp_path}/out: the output of a job, left out" in manifest.notes


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("*.jpg", ["a.jpg"]),
        ("**/*.jpg", ["a.jpg", "x/b.jpg", "x/y/c.jpg"]),
        ("x/**", ["x/b.jpg", "x/y/c.jpg", "x/y/d.png"]),
        ("*/*/[cd].*", ["x/y/c.jpg", "x/y/d.png"]),
    ],
)
def test_a_glob_says_which_and_means_the_same_in_storage(
    tmp_path: Path, pattern: str, found: list[str]
) -> None:
    names = ("a.jpg", "x/b.jpg", "x/y/c.jpg", "x/y/d.png")
    touch(tmp_path, *names)
    store = fsspec.filesystem("memory")
    for name in names:
        store.pipe_file(f"/shop-of-globs/{name}", b"x")
    for folder in (str(tmp_path), "memory://shop-of-globs"):
        manifest = pictures(folder, glob=pattern)
        assert manifest.plan["id"].to_pylist() == found
        left = len(names) - len(found)
        assert ("not in --glob" in " ".join(manifest.notes)) == bool(left)
        start = "x/" if pattern.startswith("x") else ""  # paths begin behind what is fixed
        of_glob = pictures(f"{folder}/{pattern}").plan["id"].to_pylist()
        assert of_glob == [name.removeprefix(start) for name in found]


def test_a_link_that_leads_back_is_followed_once(tmp_path: Path) -> None:
    touch(tmp_path / "shop", "a.jpg")
    touch(tmp_path / "other", "b.jpg")
    (tmp_path / "shop" / "back").symlink_to(tmp_path / "shop")
    (tmp_path / "shop" / "other").symlink_to(tmp_path / "other")
    assert pictures(tmp_path / "shop").plan["id"].to_pylist() == ["a.jpg", "other/b.jpg"]


def test_a_name_that_is_not_utf8_is_a_row_that_says_so(tmp_path: Path) -> None:
    touch(tmp_path, "a.jpg")
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xb0\xa1.jpg")).write_bytes(b"")
    good, bad = planned(pictures(tmp_path).plan)
    assert (good.id, bad.id) == ("a.jpg", r"\xb0\xa1.jpg")
    assert "is not UTF-8: rename it" in fault(bad).message


@pytest.mark.parametrize(
    ("location", "says"),
    [
        ("empty", "empty holds no picture; .*left out: 1 .txt"),
        ("m.csv", "--instruction is for a folder of pictures, and .*m.csv is none"),
        ("none", "no folder at .*none"),
        ("shop/*.png", r"shop holds no picture that matches \*.png"),
        ("shop/**.jpg", r"\*\* stands alone between slashes"),
    ],
)
def test_what_is_no_folder_of_pictures_is_refused(tmp_path: Path, location: str, says: str) -> None:
    touch(tmp_path, "shop/a.jpg", "empty/a.txt", "m.csv")
    with pytest.raises(ManifestInvalid, match=says):
        pictures(tmp_path / location)


def test_a_folder_without_a_sentence_says_what_to_give(tmp_path: Path) -> None:
    touch(tmp_path, "a.jpg", "b/c.png")
    with pytest.raises(ManifestInvalid, match="holds 2 pictures: --instruction edits every one"):
        read_manifest(str(tmp_path))
    with pytest.raises(InstructionEmpty):
        pictures(tmp_path, " ")


def test_a_flag_that_is_given_again_is_another_instruction(tmp_path: Path) -> None:
    touch(tmp_path, "a.jpg", "b/c.jpg", "d.png")
    flags = ["--instruction", NIGHT, "--instruction", FOG, "--glob", "**/*.jpg"]
    checked = CliRunner().invoke(app, ["validate", str(tmp_path), "--images", "0", *flags])
    assert checked.exit_code == 0, checked.output
    first, other = checked.output.splitlines()
    assert first == f"{tmp_path}: 4 rows, 0 images opened"
    assert other.endswith("not in --glob **/*.jpg: 1 .png, such as d.png")
    dest = str(tmp_path / "m.csv")
    written = CliRunner().invoke(app, ["manifest", str(tmp_path), "-o", dest, *flags])
    assert written.output.splitlines()[0] == f"{dest} 4 rows"
    assert read_manifest(dest)["id"].to_pylist() == ["a.jpg", "a.jpg#2", "b/c.jpg", "b/c.jpg#2"]


def test_a_folder_needs_no_sentence_where_the_job_has_a_style(tmp_path: Path) -> None:
    touch(tmp_path, "a.jpg", "b/c.jpg")
    plan = read_manifest(str(tmp_path), Reading(style="anime"))
    assert plan["id"].to_pylist() == ["a.jpg", "b/c.jpg"]
    assert plan["instruction"].to_pylist() == ["", ""]
    with pytest.raises(ManifestInvalid, match=r"no manifest at .*none"):
        read_manifest(str(tmp_path / "none"), Reading(style="anime"))


def test_a_folder_is_edited_and_gone_on_with(tmp_path: Path, photographs: dict[str, bytes]) -> None:
    """The job itself: its own output lies in the folder, and a second sentence is added."""
    shop, out = tmp_path / "shop", tmp_path / "shop" / "out"
    (shop / "sub").mkdir(parents=True)
    for name in ("a#1.jpg", "sub/夜 %20.jpg"):
        (shop / name).write_bytes(photographs["coffee"])
    once = CONFIG.model_copy(update={"instruction": (NIGHT,)})
    twice = CONFIG.model_copy(update={"instruction": (NIGHT, FOG)})
    assert job_here(str(shop), out, once).run() == Exit.OK
    first = ledger(out)
    assert set(first) == {"a#1.jpg", "sub/夜 %20.jpg"}
    assert job_here(str(shop), out, twice).run() == Exit.OK
    second = ledger(out)
    assert len(second) == 4 and all(second[id] == row for id, row in first.items())
