"""The commands that the pages give for a cluster, as written, on a head that wants a token.

Only what is another's is put in: addresses and ports, pocket on a CPU in the place of a GPU's
model, folders in the place of buckets.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
import yaml

from cluster.processes import kill_session
from serve_app.ray_private import PROXY_TIMEOUT_VARIABLES
from tests.serve_app.conftest import files_of, post_form
from tests.serving import eventually, free_port
from tests.test_layers import PACKAGES

pytestmark = pytest.mark.chaos  # a Ray of several processes, with its dashboard

ROOT = Path(__file__).parent.parent
KEY = {"authorization": "Bearer YOUR-KEY"}
PATIENCE_S = 120.0


def block_of(page: str, title: str) -> list[str]:
    """The lines of the first block of code under a title, without their remarks."""
    text = (ROOT / page).read_text().partition(f"\n## {title}\n")[2]
    block = text.split("```")[1].strip("\n").replace("\\\n", " ")
    return [line.partition(" # ")[0].strip() for line in block.splitlines()]


SERVING = block_of("docs/serving.md", "On a cluster")
EXPORTS = [line for line in SERVING if line.startswith("export ")]
GENERATE, START, DEPLOY = (line for line in SERVING if not line.startswith("export "))
(SUBMIT,) = block_of("README.md", "On a cluster")
README = (ROOT / "README.md").read_text()
(JOIN,) = re.findall(r"`rayedit batch \.\.\. (--address .*?)`", README)


@dataclass(frozen=True)
class Head:
    """A head node, and a copy of the repository from which commands are given."""

    folder: Path
    environment: dict[str, str]
    dashboard: str
    port: int  # of Serve

    def run(self, command: str, exports: list[str] = EXPORTS) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["bash", "-c", "\n".join([*exports, command])],
            cwd=self.folder / "rayedit",
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
        )

    def done(self, command: str) -> str:
        """Run a command that succeeds; returns what it said."""
        ended = self.run(command)
        assert ended.returncode == 0, ended.stdout + ended.stderr
        return ended.stdout + ended.stderr


@pytest.fixture(scope="module")
def head() -> Iterator[Head]:
    folder = Path(tempfile.mkdtemp(prefix="rc-", dir="/tmp"))  # Ray's sockets need a short path
    copy = folder / "rayedit"
    for name in (*PACKAGES, "configs"):
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "bin").mkdir()
    (folder / "bin" / "rayedit").write_text(f'#!/bin/sh\nexec {sys.executable} -m cli.main "$@"\n')
    (folder / "bin" / "rayedit").chmod(0o755)
    dashboard, port = free_port(), free_port()
    environment = {
        **{name: value for name, value in os.environ.items() if name[:4] not in ("RAY_", "RAYE")},
        "HOME": str(folder),
        "RAY_TMPDIR": str(folder),
        "PATH": f"{folder}/bin:{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PYTHONPATH": str(copy),  # rayedit in every node's Python
        "RAY_API_SERVER_ADDRESS": f"http://127.0.0.1:{dashboard}",
        "RAY_DASHBOARD_ADDRESS": f"http://127.0.0.1:{dashboard}",
        **PROXY_TIMEOUT_VARIABLES,  # of a busy machine, as the page says
    }
    found = Head(folder, environment, f"127.0.0.1:{dashboard}", port)
    found.done(GENERATE)
    options = ("port", "ray-client-server-port", "dashboard-agent-listen-port")
    ports = " ".join(f"--{name} {free_port()}" for name in options)  # others may run here
    ports += f" --dashboard-port {dashboard}"
    with (folder / "head.log").open("wb") as log:
        process = subprocess.Popen(
            ["bash", "-c", "\n".join([*EXPORTS, f"exec {START} --block --num-cpus 8 {ports}"])],
            cwd=copy,
            env=environment,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:

        def runs_or_has_ended() -> bool:
            return process.poll() is not None or found.run("ray status").returncode == 0

        assert eventually(runs_or_has_ended, PATIENCE_S)
        assert process.poll() is None, (folder / "head.log").read_text()
        yield found
    finally:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(30)
        kill_session(process.pid)
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def manifest(head: Head, photographs: dict[str, bytes]) -> str:
    (head.folder / "coffee.jpg").write_bytes(photographs["coffee"])
    row = {"id": "a", "image": str(head.folder / "coffee.jpg"), "instruction": "make it night"}
    file = head.folder / "manifest.jsonl"
    file.write_text(json.dumps(row) + "\n")
    return str(file)


def submitted(head: Head, manifest: str, output: str) -> str:
    """README's command for a job, over these files."""
    command = SUBMIT.replace("HEAD:8265", head.dashboard).replace("gpu.yaml", "local.yaml")
    command = command.replace("s3://bucket/manifest.parquet", manifest)
    return command.replace("s3://bucket/out", output)


def test_a_server_is_deployed_and_edits_for_those_who_have_a_key(
    head: Head, photographs: dict[str, bytes]
) -> None:
    file = head.folder / "rayedit" / DEPLOY.split()[-1]
    settings = yaml.safe_load(file.read_text())
    settings["http_options"]["port"] = head.port
    (application,) = settings["applications"]
    application["args"] |= {"engine": {"model": "pocket", "resolution": 64, "num_threads": 1}}
    application["args"] |= {"num_gpus": 0, "num_cpus": 1, "max_replicas": 1, "decode_workers": 1}
    application["args"]["ingress_replicas"] = 1
    file.write_text(yaml.safe_dump(settings))
    head.done(DEPLOY)
    with httpx.Client(base_url=f"http://127.0.0.1:{head.port}", timeout=60) as http:

        def is_ready() -> bool:
            try:
                return http.get("/readyz").status_code == 200
            except httpx.TransportError:
                return False

        assert eventually(is_ready, PATIENCE_S), head.done("serve status")
        assert post_form(http, photographs["coffee"]).status_code == 401
        http.headers.update(KEY)
        assert files_of(post_form(http, photographs["coffee"], num_inference_steps=4))
        guarded = http.get("/healthz", headers={"x-request-id": "not safe"})
        assert len(guarded.headers["x-request-id"]) == 32
        assert eventually(lambda: "ray_rayedit_images_total" in http.get("/metrics").text)
    head.done("serve shutdown --yes")


def test_a_job_is_submitted_and_one_joins_from_a_node(head: Head, manifest: str) -> None:
    out = head.folder / "submitted"
    head.done(submitted(head, manifest, str(out)))
    assert (out / "_SUCCESS").exists()
    joined = head.folder / "joined"
    told = head.done(f"rayedit batch {manifest} {joined} --config configs/batch/local.yaml {JOIN}")
    assert (joined / "_SUCCESS").exists(), told


def test_who_sends_no_token_is_refused(head: Head, manifest: str) -> None:
    out = head.folder / "refused"
    without = [line for line in EXPORTS if "RAY_AUTH_MODE" not in line]
    assert len(without) == len(EXPORTS) - 1
    for command in (submitted(head, manifest, str(out)), DEPLOY):
        ended = head.run(command, without)
        assert ended.returncode != 0
        assert re.search("token|401|authenti", ended.stdout + ended.stderr, re.IGNORECASE)
    assert not out.exists()
