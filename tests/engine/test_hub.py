"""A hub id is known by its pipeline's class, before anything big is asked for."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

COMMIT = "c" * 40


class Hub(ThreadingHTTPServer):
    """A hub with these repositories, {hub id: {file: content}}; `asked` holds what was fetched."""

    def __init__(self, repositories: dict[str, dict[str, bytes]]) -> None:
        super().__init__(("127.0.0.1", 0), _Answer)
        self.repositories = repositories
        self.asked: list[str] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Answer(BaseHTTPRequestHandler):
    server: Hub

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def log_message(self, *_: object) -> None:
        pass

    def _answer(self, *, with_body: bool) -> None:
        body = self._body(with_body)
        self.send_response(404 if body is None else 200)
        self.send_header("Content-Length", str(len(body or b"")))
        self.send_header("ETag", f'"{hash(body)}"')
        self.send_header("X-Repo-Commit", COMMIT)
        self.end_headers()
        if with_body and body is not None:
            self.wfile.write(body)

    def _body(self, with_body: bool) -> bytes | None:
        _, *parts = self.path.split("?")[0].split("/")
        if parts[:2] == ["api", "models"]:
            return self._told("/".join(parts[2:4]), parts[4:])
        name = "/".join(parts[4:])
        if with_body and name:
            self.server.asked.append(name)
        return self.server.repositories.get("/".join(parts[:2]), {}).get(name)

    def _told(self, hub_id: str, question: list[str]) -> bytes | None:
        files = self.server.repositories.get(hub_id)
        if files is None:
            return None
        if question[:1] == ["tree"]:
            entries = [
                {"type": "file", "path": n, "size": len(b), "oid": n} for n, b in files.items()
            ]
            return json.dumps(entries).encode()
        siblings = [{"rfilename": name} for name in files]
        return json.dumps({"id": hub_id, "sha": COMMIT, "siblings": siblings}).encode()


def folder_of(pipeline: str) -> dict[str, bytes]:
    """A repository in the diffusers layout, whose weights nobody may ask for yet."""
    unet = {"block_out_channels": [8, 16], "sample_size": 32}
    files: dict[str, object] = {
        "model_index.json": {"_class_name": pipeline},
        "vae/config.json": {"block_out_channels": [8, 8, 8, 8]},
        "unet/config.json": unet,
        "unet/diffusion_pytorch_model.safetensors": "weights",
        "unet/diffusion_pytorch_model.fp16.safetensors": "the same weights",
        "safety_checker/model.safetensors": "a judge",
        "tokenizer/chat_template.jinja": "{{ messages }}",
        "for-another-program.safetensors": "the same weights",
        "README.md": "words",
    }
    return {name: json.dumps(content).encode() for name, content in files.items()}


@pytest.fixture(scope="module")
def hub() -> Iterator[Hub]:
    server = Hub(
        {
            "black-forest-labs/FLUX.1-Kontext-dev": folder_of("SomeOtherPipeline"),
            "someone/editor": folder_of("StableDiffusionInstructPix2PixPipeline"),
            "someone/canny": {
                name: name.encode()
                for name in (
                    "config.json",
                    "diffusion_pytorch_model.safetensors",
                    "diffusion_pytorch_model.fp16.safetensors",
                    "diffusion_pytorch_model.bin",
                    "control_sd15_canny.safetensors",
                )
            },
        }
    )
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def found(hub: Hub, home: Path, model: str, **environment: str) -> tuple[str, list[str]]:
    """What a fresh process says of a model, and which files it fetched for that."""
    code = f"""
from engine.errors import EngineError
from engine.registry import find_model
try:
    spec = find_model({model!r})
    print(spec.name, spec.source, spec.revision, spec.resolution, spec.multiple, spec.guidance)
except EngineError as error:
    print(type(error).__name__, error.message)
"""
    hub.asked.clear()
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "HF_HOME": str(home), "HF_ENDPOINT": hub.url, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip(), sorted(hub.asked)


def test_another_pipeline_is_refused_by_name_before_anything_else_is_fetched(
    hub: Hub, tmp_path: Path
) -> None:
    said, asked = found(hub, tmp_path, "black-forest-labs/FLUX.1-Kontext-dev")
    assert said.startswith(
        "ModelError black-forest-labs/FLUX.1-Kontext-dev is a SomeOtherPipeline, which rayedit has "
        "no editor for; it knows "
    )
    assert asked == ["model_index.json"]


def test_a_hub_id_is_described_by_its_own_configuration_and_then_without_a_network(
    hub: Hub, tmp_path: Path
) -> None:
    said, asked = found(hub, tmp_path, "someone/editor@main")
    assert said == "someone/editor someone/editor main 256 16 two_scale"
    assert asked == ["model_index.json", "unet/config.json", "vae/config.json"]
    offline, asked = found(hub, tmp_path, "someone/editor@main", HF_HUB_OFFLINE="1")
    assert (offline, asked) == (said, [])


def fetched(hub: Hub, home: Path, arguments: str) -> list[str]:
    """The files that `fetch_weights` asks the hub for, in a process whose cache is empty."""
    code = f"from engine.hub import fetch_weights; fetch_weights({arguments})"
    hub.asked.clear()
    environment = {**os.environ, "HF_HOME": str(home), "HF_ENDPOINT": hub.url}
    subprocess.run([sys.executable, "-c", code], env=environment, check=True)
    return sorted(hub.asked)


def test_all_that_a_model_is_loaded_from_is_fetched_and_its_weights_once(
    hub: Hub, tmp_path: Path
) -> None:
    """Many a repository holds them a second time, in one file beside `model_index.json`."""
    assert fetched(hub, tmp_path, "'someone/editor', None") == [
        "model_index.json",
        "tokenizer/chat_template.jinja",
        "unet/config.json",
        "unet/diffusion_pytorch_model.safetensors",
        "vae/config.json",
    ]


def test_of_a_part_with_a_repository_of_its_own_what_is_loaded_is_fetched(
    hub: Hub, tmp_path: Path
) -> None:
    of_a_part = fetched(hub, tmp_path, "'someone/canny', None, part=True")
    assert of_a_part == ["config.json", "diffusion_pytorch_model.safetensors"]


def test_an_operator_says_where_the_files_of_the_hub_are_kept(hub: Hub, tmp_path: Path) -> None:
    code = """
from engine.config import EngineConfig
from engine.weights import find_revision, find_weights
spec = EngineConfig(**{settings}).find_model()
print(*find_weights(spec), find_revision(spec) == find_weights(spec)[1])
"""
    cache, own = tmp_path / "cache", tmp_path / "own"
    environment = {**os.environ, "HF_HOME": str(tmp_path / "home"), "HF_ENDPOINT": hub.url}

    def told(**settings: str) -> list[str]:
        given = code.format(settings={"model": "someone/editor", **settings})
        command = [sys.executable, "-c", given]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout.split()

    snapshot = f"{cache}/models--someone--editor/snapshots/{COMMIT}"
    assert told(hf_cache_dir=str(cache)) == [snapshot, COMMIT, "True"]
    folder, digest, is_one = told(hf_cache_dir=str(cache), hf_local_dir=str(own))
    assert (folder, is_one, len(digest)) == (str(own), "True", 64)
    assert (own / "unet" / "diffusion_pytorch_model.safetensors").read_bytes() == b'"weights"'
    assert not (tmp_path / "home" / "hub" / "models--someone--editor").exists()
    environment["HF_HUB_OFFLINE"] = "1"
    assert told(hf_cache_dir=str(cache), hf_local_dir=str(own)) == [folder, digest, "True"]


def test_without_a_network_an_unknown_hub_id_says_what_to_do(hub: Hub, tmp_path: Path) -> None:
    said, asked = found(hub, tmp_path, "someone/editor", HF_HUB_OFFLINE="1")
    assert said.startswith("ModelError cannot fetch someone/editor from the hub (")
    assert said.endswith("fetch it where there is a network and pass its folder with --model")
    assert asked == []
