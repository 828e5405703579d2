"""LiteLLM, unmodified, in an environment of its own: its SDK, and its proxy before the server."""

from __future__ import annotations

import base64
import os
import subprocess
import venv
from collections.abc import Iterator
from pathlib import Path

import openai
import pytest
import yaml

from tests.clients.test_node import SIZE, aliased
from tests.serve_app.conftest import pixels_of
from tests.serving import Server, eventually, free_port

__all__ = ["aliased"]

VERSION = "1.80.0"
SDK = """
import sys
import litellm
answer = litellm.image_edit(
    model="openai/gpt-image-1",
    image=open("photo.jpg", "rb"),
    prompt="make it night",
    api_base=sys.argv[1],
    api_key="none",
)
print(answer.data[0].b64_json)
"""


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bin folder of an environment with LiteLLM."""
    folder = tmp_path_factory.mktemp("litellm")
    venv.create(folder, with_pip=True)
    install = ("-m", "pip", "install", "-q", f"litellm[proxy]=={VERSION}")
    subprocess.run([folder / "bin" / "python", *install], check=True)
    return folder / "bin"


@pytest.fixture
def proxy(stranger: Path, aliased: Server, tmp_path: Path) -> Iterator[str]:
    """The address of LiteLLM's proxy before the server."""
    parameters = {"model": "openai/gpt-image-1", "api_base": f"{aliased.url}/v1", "api_key": "none"}
    models = [{"model_name": "photo-editor", "litellm_params": parameters}]
    (tmp_path / "proxy.yaml").write_text(yaml.safe_dump({"model_list": models}))
    port = free_port()
    command = [str(stranger / "litellm"), "--config", "proxy.yaml", "--port", str(port)]
    environment = {**os.environ, "HOST": "127.0.0.1"}
    with (tmp_path / "proxy.log").open("wb") as log:
        process = subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=log, stderr=log)
    try:
        assert eventually(lambda: answers(port), 180), (tmp_path / "proxy.log").read_text()
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(60)


def answers(port: int) -> bool:
    try:
        with openai.OpenAI(base_url=f"http://127.0.0.1:{port}", api_key="none") as sdk:
            return bool(list(sdk.models.list()))
    except openai.OpenAIError:
        return False


@pytest.mark.chaos  # from its registry
def test_its_sdk_edits(
    stranger: Path, aliased: Server, tmp_path: Path, photographs: dict[str, bytes]
) -> None:
    (tmp_path / "photo.jpg").write_bytes(photographs["coffee"])
    (tmp_path / "edit.py").write_text(SDK)
    done = subprocess.run(
        [stranger / "python", "edit.py", f"{aliased.url}/v1"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    picture = pixels_of(base64.b64decode(done.stdout.splitlines()[-1]))
    assert picture.shape == (SIZE[1], SIZE[0], 3)


@pytest.mark.chaos
def test_its_proxy_passes_an_edit_on(proxy: str, photographs: dict[str, bytes]) -> None:
    with openai.OpenAI(base_url=proxy, api_key="none") as sdk:
        answer = sdk.images.edit(
            model="photo-editor", image=("a.jpg", photographs["coffee"]), prompt="make it night"
        )
    assert answer.data is not None and answer.data[0].b64_json is not None
    picture = pixels_of(base64.b64decode(answer.data[0].b64_json))
    assert picture.shape == (SIZE[1], SIZE[0], 3)
