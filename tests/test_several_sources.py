"""An edit of two sources is the same bytes by command, by job and in Python; pocket refuses it."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner

import rayedit
from batch_jobs.config import JobConfig
from batch_jobs.job import Job
from batch_jobs.ledger.ledger import Ledger
from batch_jobs.stages.in_process import edited_here
from batch_jobs.stopping import Exit
from cli.main import app
from engine.config import EngineConfig
from engine.images import encode
from storage.storage import Storage
from tests.batch_jobs.shapes import write_lines
from tests.conftest import photograph, png

FEW = {"num_inference_steps": 2, "seed": 7}


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    for name in ("coffee", "chelsea"):
        (tmp_path / f"{name}.png").write_bytes(png(photograph(name)[:128, :192]))
    return tmp_path


def by_command(folder: Path, engine: EngineConfig, *images: str) -> bytes:
    source, *others = (str(folder / name) for name in images)
    config = folder / "engine.yaml"
    config.write_text(engine.model_dump_json())
    output = str(folder / "command.png")
    flags = [part for other in others for part in ("--image", other)]
    few = ["--num-inference-steps", "2", "--seed", "7", "--config", str(config)]
    done = CliRunner().invoke(app, ["edit", source, "add fog", "-o", output, *flags, *few])
    assert done.exit_code == 0, done.output
    return Path(output).read_bytes()


def by_job(folder: Path, engine: EngineConfig, *lists: list[str]) -> list[bytes]:
    lines = [
        {"id": str(i), "image": images, "instruction": "add fog", **FEW}
        for i, images in enumerate(lists)
    ]
    manifest = write_lines(folder / "m.jsonl", lines)
    job = Job.open(manifest, str(folder / "out"), JobConfig(engine=engine), run_blocks=edited_here)
    assert job.run() == Exit.OK
    rows = sorted(Ledger(Storage(str(folder / "out"))).read().to_pylist(), key=lambda r: r["id"])
    assert [row["references"] for row in rows] == [images[1:] for images in lists]
    return [Path(row["outputs"][0]["uri"]).read_bytes() for row in rows]


def test_an_edit_of_two_sources_is_the_same_bytes_through_every_door(
    photos: Path, tiny: Callable[[str], Path]
) -> None:
    engine = EngineConfig(
        model=str(tiny("flux2-klein-distilled")), determinism="strict", num_threads=1
    )
    both, turned, one = ["coffee.png", "chelsea.png"], ["chelsea.png", "coffee.png"], ["coffee.png"]
    jobs = by_job(photos, engine, both, turned, one)
    assert len(set(jobs)) == 3
    assert by_command(photos, engine, *both) == jobs[0]
    assert by_command(photos, engine, *one) == jobs[2]
    with rayedit.Editor(**engine.model_dump()) as editor:
        first, second = (photos / name for name in both)
        made = editor.edit_many([first, second], "add fog", references=[[second], [first]], **FEW)
        made.append(editor.edit(first, "add fog", references=[Image.open(second)], **FEW))
        bad = editor.edit_many([first], "add fog", references=[[second, b"none"]], **FEW)[0]
    files = [
        encode(image, command=image.info["parameters"])
        for image in made
        if isinstance(image, Image.Image)
    ]
    assert files == [jobs[0], jobs[1], jobs[0]]
    assert isinstance(bad, rayedit.EditFailure)
    assert bad.code == "image_unsupported" and bad.message.startswith("image 3 of 3: ")


def test_pocket_refuses_a_second_source_in_python_by_its_argument(photos: Path) -> None:
    with rayedit.Editor("pocket", resolution=64) as editor:
        absent = io.BytesIO().getvalue()
        with pytest.raises(rayedit.EngineError) as caught:
            editor.edit(photos / "coffee.png", "add fog", references=[absent])
        assert caught.value.param == "references"
        assert caught.value.message == ("references: model pocket takes one source image; got 2")
        with pytest.raises(rayedit.EngineError, match="references: 1 values for 2 images"):
            editor.edit_many([absent, absent], "add fog", references=[[]])
