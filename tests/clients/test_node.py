"""openai-node and both providers of the AI SDK, unmodified, against the running server."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.masks import draw_mask, openai_mask
from tests.serve_app.conftest import pixels_of
from tests.serving import SMALL, Server, running_server

HERE = Path(__file__).parent
SIZE = (600, 400)  # of the photograph


@pytest.fixture(scope="module")
def aliased(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server whose model is gpt-image-1, too; two steps, so that an edit takes a moment."""
    engine = {**SMALL, "options": {"num_inference_steps": 2}}
    config = {"engine": engine, "aliases": ["gpt-image-1"]}
    with running_server(config, tmp_path_factory.mktemp("aliased")) as server:
        yield server


@pytest.mark.chaos  # from their registry
def test_clients_for_node_get_their_picture(
    aliased: Server, tmp_path: Path, photographs: dict[str, bytes]
) -> None:
    for name in ("package.json", "edit.mjs"):
        shutil.copy(HERE / name, tmp_path)
    install = ["npm", "install", "--silent", "--no-audit", "--no-fund", "--no-package-lock"]
    subprocess.run(install, cwd=tmp_path, check=True)
    (tmp_path / "photo.jpg").write_bytes(photographs["coffee"])
    mask = draw_mask("box", SIZE)
    (tmp_path / "mask.png").write_bytes(openai_mask(mask))
    arguments = (f"{aliased.url}/v1", "photo.jpg", "mask.png", "make it night")
    done = subprocess.run(
        ["node", "edit.mjs", *arguments], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    made = json.loads(done.stdout)
    assert made.pop("openai-node, error") == "NotFoundError model_not_found"
    pictures = {name: pixels_of(base64.b64decode(data)) for name, data in made.items()}
    assert len(pictures) == 5
    assert {picture.shape for picture in pictures.values()} == {(SIZE[1], SIZE[0], 3)}
    assert made["openai-node"] == made["openai-node, stream"]  # one seed
    masked, source = pictures["openai-node, mask"], pixels_of(photographs["coffee"])
    assert np.array_equal(masked[mask == 0], source[mask == 0])
    assert not np.array_equal(masked, source)
