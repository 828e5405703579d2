"""Pictures are delivered under the names of their sources, and nothing is written over."""

from __future__ import annotations

import errno
import io
import os
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from batch_jobs.config import JobConfig
from batch_jobs.export.names import MAX_STEM_BYTES, Asked, stems
from batch_jobs.stopping import Exit
from cli.main import app
from engine.errors import OptionInvalid
from engine.fields import validate
from tests.batch_jobs.jobs import CONFIG, job_here, ledger, left, run_here

Write = Callable[..., str]


def named(*asked: tuple[str, str | None, str], base: str = "/shop") -> list[str]:
    return stems([Asked(*row) for row in asked], base)[0]


def test_a_picture_has_the_name_and_the_folders_of_its_source() -> None:
    rows = [
        ("1", "shoes/red.jpg", "night"),
        ("2", "/shop/shoes/blue.PNG", "night"),
        ("3", "file:///shop/a%20b.webp", "night"),
        ("4", "v1.2/no ending", "night"),
        ("5", None, "night"),
    ]
    assert named(*rows) == ["shoes/red", "shoes/blue", "a b", "v1.2/no ending", "5"]


def test_sources_elsewhere_keep_the_folders_below_the_one_they_share() -> None:
    rows = [("1", "/nas/x/a.jpg", ""), ("2", "/nas/y/z/a.jpg", ""), ("3", "../nas/b.jpg", "")]
    assert named(*rows) == ["x/a", "y/z/a", "b"]
    assert named(("1", "s3://bucket/in/a.jpg", ""), base="s3://bucket/in") == ["a"]
    assert named(("1", "s3://other/in/a.jpg", ""), base="s3://bucket/in") == ["a"]


def test_several_edits_of_a_source_are_told_apart() -> None:
    rows = [
        ("1", "a.jpg", "make it  night"),
        ("2", "a.jpg", "add fog"),
        ("3", "b.jpg", "add fog"),
        ("4", "c.jpg", "add fog"),
        ("5", "c.png", "add fog"),
        ("6", "D.jpg", "x"),
        ("7", "d.jpg", "y"),
    ]
    assert named(*rows) == [
        *("a - make it night", "a - add fog", "b", "c - add fog - 4", "c - add fog - 5"),
        *("D - x", "d - y"),
    ]


def test_names_that_another_system_cannot_hold_are_changed_and_told() -> None:
    decomposed = unicodedata.normalize("NFD", "é")
    rows = [
        ("1", "a:b?.jpg", ""),
        ("2", "con.jpg", ""),
        ("3", "end. /x.jpg", ""),
        ("4", "夜" * 99 + ".jpg", ""),
        ("5", "line\nbreak.jpg", ""),
        ("6", "é.jpg", "x"),
        ("7", f"{decomposed}.jpg", "y"),
    ]
    names, changed = stems([Asked(*row) for row in rows], "/shop")
    assert names[:3] == ["a_b_", "con_", "end_/x"]
    assert len(names[3].encode()) <= MAX_STEM_BYTES and names[3].startswith("夜夜")
    assert names[4:] == ["line_break", "é - x", f"{decomposed} - y"]
    assert changed["a:b?"] == "a_b_" and "é" not in changed


def test_names_that_are_alike_to_the_last_are_numbered() -> None:
    long = "x" * 300
    names = named(*[(f"{long}{i}", f"{long}.jpg", "night") for i in range(3)])
    assert len(set(names)) == 3 and names[2] == f"{'x' * MAX_STEM_BYTES}-3"


@pytest.fixture
def job(tmp_path: Path, manifest: Write, photographs: dict[str, bytes]) -> tuple[str, Path]:
    """A job of five rows: two edits of a coffee in a folder, two pictures of one row, a failure."""
    for folder in ("杯子", "b:c"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "coffee 1.jpg").write_bytes(photographs["coffee"])
    rows: list[dict[str, Any]] = [
        {"id": "1", "image": "杯子/coffee 1.jpg", "instruction": "make it night"},
        {"id": "2", "image": "杯子/coffee 1.jpg", "instruction": "add fog"},
        {"id": "3", "image": "b:c/coffee 1.jpg", "instruction": "add fog", "num_images": 2},
        {"id": "4", "image": "rocket.jpg", "instruction": "add fog", "return_mask": False},
        {"id": "5", "image": "none.jpg", "instruction": "add fog"},
    ]
    path, output = manifest(rows), tmp_path / "out"
    assert run_here(path, output) == Exit.FAILED_ROWS
    return path, output


NAMES = [
    *("b_c/coffee 1-0.png", "b_c/coffee 1-1.png", "rocket.png"),
    *("杯子/coffee 1 - add fog.png", "杯子/coffee 1 - make it night.png"),
]


def delivered(output: Path, folder: Path) -> Result:
    return CliRunner().invoke(app, ["export", str(output), "--keep-names", "--dest", str(folder)])


def files(folder: Path) -> list[str]:
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


def test_a_delivery_says_what_it_did_and_links_the_files(job: tuple[str, Path]) -> None:
    _, output = job
    folder = output.parent / "delivery"
    told = delivered(output, folder).output.splitlines()
    assert told == [
        f"{folder} 5 pictures",
        "  1 name changed for other systems, such as 'b:c' to 'b_c'",
        "  1 row failed: see `rayedit status OUTPUT --failed`",
    ]
    assert files(folder) == NAMES
    made = {
        row["id"]: [Path(out["uri"]) for out in row["outputs"]] for row in ledger(output).values()
    }
    assert (folder / "rocket.png").samefile(made["4"][0])
    assert (folder / "b_c" / "coffee 1-1.png").samefile(made["3"][1])
    assert delivered(output, folder).output.startswith(f"{folder} 5 pictures, 5 there before\n")
    assert files(folder) == NAMES


def test_what_is_there_is_kept_and_the_picture_gets_a_number(job: tuple[str, Path]) -> None:
    _, output = job
    folder = output.parent / "delivery"
    folder.mkdir()
    (folder / "rocket.png").write_text("somebody's")
    assert "1 got a number" in delivered(output, folder).output
    assert (folder / "rocket.png").read_text() == "somebody's"
    assert Image.open(folder / "rocket-2.png").format == "PNG"
    assert ", 5 there before" in delivered(output, folder).output
    assert "rocket-3.png" not in files(folder)


@pytest.mark.parametrize("number", [errno.EXDEV, errno.EPERM])
def test_where_there_are_no_links_the_pictures_are_copied(
    job: tuple[str, Path], monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """As on another disk, and on a stick, whose file system has none at all."""
    _, output = job
    folder = output.parent / "delivery"
    link = os.link

    def refuse(source: str, target: str) -> None:
        if number == errno.EPERM or not source.endswith(".part"):
            raise OSError(number, os.strerror(number))
        link(source, target)

    monkeypatch.setattr(os, "link", refuse)
    assert delivered(output, folder).exit_code == 0
    assert files(folder) == NAMES
    (uri,) = [Path(out["uri"]) for out in ledger(output)["4"]["outputs"]]
    assert (folder / "rocket.png").read_bytes() == uri.read_bytes()
    assert not (folder / "rocket.png").samefile(uri)
    assert ", 5 there before" in delivered(output, folder).output


def test_a_job_may_write_jpeg_or_webp(manifest: Write, tmp_path: Path) -> None:
    rows = [{"id": "1", "image": "coffee.jpg", "instruction": "add fog"}]
    path, output, sizes = manifest(rows), tmp_path / "out", []
    for told in ({"output_format": "webp"}, {"output_format": "jpeg"}, {"output_compression": 5}):
        config = CONFIG.model_copy(update={"output_format": "jpeg", **told})
        assert len(left(job_here(path, output, config)).todo) == 1
        assert run_here(path, output, config) == Exit.OK
        (out,) = ledger(output)["1"]["outputs"]
        image = Image.open(io.BytesIO(data := Path(out["uri"]).read_bytes()))
        assert image.format == config.output_format.upper()
        sizes.append(len(data))
    assert sizes[2] < sizes[1]
    assert delivered(output, tmp_path / "delivery").exit_code == 0
    assert files(tmp_path / "delivery") == ["coffee.jpg"]


def test_png_has_no_quality() -> None:
    with pytest.raises(OptionInvalid, match="output_compression: PNG is lossless"):
        validate(JobConfig, {"output_compression": 90})
    assert validate(JobConfig, {"output_compression": 100}).output_format == "png"


@pytest.mark.parametrize(
    "flags",
    [["--keep-names"], ["--keep-names", "--dest", "x", "--to", "jsonl"], []],
)
def test_an_export_that_is_neither_is_refused(job: tuple[str, Path], flags: list[str]) -> None:
    done = CliRunner().invoke(app, ["export", str(job[1]), *flags])
    assert isinstance(done.exception, OptionInvalid)
    assert "--keep-names" in done.exception.message
