"""One actor behind every door: the same row gives the same bytes through all of them."""

from __future__ import annotations

import base64
import io
from pathlib import Path

import httpx
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

import rayedit
from batch_jobs.ledger.ledger import Ledger
from engine.images import encode
from engine.png import text_of
from engine.recipe import read_command
from storage.storage import Storage
from tests.cli.test_cli import SMALL
from tests.cli.test_cli import rayedit as command
from tests.masks import draw_mask, openai_mask
from tests.serving import Server, server

__all__ = ["server"]

EDITS = [
    {"instruction": "make it night", "seed": 7, "num_inference_steps": 4},
    {
        "instruction": "add fog",
        "seed": 4294967295,
        "num_inference_steps": 3,
        "guidance_scale": 3.0,
        "image_guidance_scale": 1.0,
        "scheduler": "euler_ancestral",
        "negative_prompt": "blue",
        "resize": "pad",
        "restore_size": True,
    },
    {
        "instruction": "turn the sky pink",
        "seed": 9,
        "num_inference_steps": 3,
        "detail": "source",
        "preserve": "auto",
        "mask": "mask.png",
        "measures": "full",
        "repair": "both",
    },
    {
        "instruction": "add fog",
        "seed": 11,
        "num_inference_steps": 3,
        "guidance_scale": 20.0,
        "image_guidance_scale": 0.0,
        "auto_guidance": "on",
    },
]


SCALES = {
    "guidance_scale": "--guidance-scale",
    "image_guidance_scale": "--image-guidance-scale",
}


def by_command(photo: Path, edit: dict[str, object]) -> bytes:
    flags = []
    for name, value in edit.items():
        flag = f"--{name.replace('_', '-')}"
        given = photo.with_name("mask.png") if name == "mask" else value
        flags += [flag] if given is True else [flag, str(given)]
    config = photo.parent / "engine.yaml"
    config.write_text(SMALL)
    output = photo.parent / "edited.png"
    instruction = flags[1]
    done = command("edit", photo, instruction, "-o", output, "--config", config, *flags[2:])
    assert done.returncode == 0, done.stderr
    return output.read_bytes()


def by_job(photo: Path, edits: list[dict[str, object]]) -> list[bytes]:
    rows = [{"id": str(i), "image": photo.name, **edit} for i, edit in enumerate(edits)]
    columns = {key: [row.get(key) for row in rows] for row in rows for key in row}
    manifest, output = photo.parent / "manifest.parquet", photo.parent / "out"
    pq.write_table(pa.table(columns), manifest)
    config = photo.parent / "job.yaml"
    config.write_text("engine: {resolution: 64, num_threads: 1}\n")
    done = command("batch", manifest, output, "--config", config, "--determinism", "strict")
    assert done.returncode == 0, done.stderr
    ledger = sorted(Ledger(Storage(str(output))).read().to_pylist(), key=lambda row: row["id"])
    return [Path(row["outputs"][0]["uri"]).read_bytes() for row in ledger]


def by_python(editor: rayedit.Editor, photo: Path, edit: dict[str, object]) -> bytes:
    """The file that its picture makes with what it says of itself."""
    given = {name: value for name, value in edit.items() if name != "mask"}
    mask = photo.with_name("mask.png") if "mask" in edit else None
    image = editor.edit(photo, mask=mask, **given)  # type: ignore[arg-type]
    return encode(image, command=image.info["parameters"])


def by_http(server: Server, photo: Path, edit: dict[str, object]) -> bytes:
    fields = {
        name: str(value).lower() if value is True else str(value) for name, value in edit.items()
    }
    fields["prompt"] = fields.pop("instruction")
    names = {"image": photo.name} | ({"mask": fields.pop("mask")} if "mask" in fields else {})
    files = {field: (name, photo.with_name(name).read_bytes()) for field, name in names.items()}
    answer = httpx.post(f"{server.url}/v1/images/edits", data=fields, files=files, timeout=60)
    assert answer.status_code == 200, answer.text
    return base64.b64decode(answer.json()["data"][0]["b64_json"])


@pytest.mark.slow
def test_a_row_is_the_same_bytes_by_command_by_job_by_http_and_in_python(
    server: Server, tmp_path: Path, photographs: dict[str, bytes]
) -> None:
    photo = tmp_path / "coffee.jpg"
    photo.write_bytes(photographs["coffee"])
    mask = draw_mask("ring", (600, 400))
    photo.with_name("mask.png").write_bytes(openai_mask(mask))
    jobs = by_job(photo, EDITS)
    with rayedit.Editor("pocket", resolution=64, determinism="strict", num_threads=1) as editor:
        for edit, from_job in zip(EDITS, jobs, strict=True):
            assert by_http(server, photo, edit) == from_job
            assert by_command(photo, edit) == from_job
            assert by_python(editor, photo, edit) == from_job
            line = text_of(from_job)
            words = line and read_command(line)
            assert words and words[3] == edit["instruction"]
            assert words[-2:] == ["--seed", str(edit["seed"])]
        scales = {name: float(words[words.index(flag) + 1]) for name, flag in SCALES.items()}
        assert scales["guidance_scale"] < 20.0  # the last edit's guidance set itself
        bare = {name: value for name, value in EDITS[-1].items() if name != "auto_guidance"}
        assert by_python(editor, photo, bare | scales) == jobs[-1]
    assert len(set(jobs)) == len(jobs)
    masked, source = (
        np.asarray(Image.open(io.BytesIO(data))) for data in (jobs[2], photo.read_bytes())
    )
    assert np.array_equal(masked[mask == 0], source[mask == 0])
