"""Manifest, images and output in S3 (moto's real server), behind a proxy that answers some 503s."""

from __future__ import annotations

import base64
import hashlib
import json
import logging
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest
from moto.server import ThreadedMotoServer
from s3fs import S3FileSystem
from typer.testing import CliRunner

from batch_jobs.ledger.lease import Lease
from batch_jobs.ledger.ledger import Ledger
from batch_jobs.stopping import Exit
from cli.main import app
from engine.errors import OutputBusy, OutputUnusable
from engine.spec import ModelSpec
from storage.storage import Storage
from tests.batch_jobs.editors import dry
from tests.batch_jobs.fault_proxy import FaultProxy, fault_proxy
from tests.batch_jobs.jobs import good_rows, run_job
from tests.batch_jobs.shared_ray import shared_ray

BUCKET = "s3://bucket"


@pytest.fixture(scope="module")
def s3(request: pytest.FixtureRequest) -> Iterator[FaultProxy]:
    """The proxy before moto; this process in a Ray whose workers know it."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    moto = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    moto.start()
    with (
        pytest.MonkeyPatch.context() as environment,
        fault_proxy(moto.get_host_and_port()[1]) as proxy,
    ):
        variables = {
            "AWS_ENDPOINT_URL": proxy.url,
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_DEFAULT_REGION": "us-east-1",
        }
        for name, value in variables.items():
            environment.setenv(name, value)
        S3FileSystem.clear_instance_cache()
        fsspec.filesystem("s3").mkdir("bucket")
        with shared_ray(request.config, **variables):
            yield proxy
        S3FileSystem.clear_instance_cache()
    moto.stop()


def outcomes(output: str) -> dict[str, tuple[str, list[bytes]]]:
    """id -> (status, each published file, read back): they are what the ledger says."""
    rows = Ledger(Storage(output)).read().to_pylist()
    found = {}
    for row in rows:
        files = [fsspec.open(out["uri"]).fs.cat_file(out["uri"]) for out in row["outputs"]]
        said = [out["sha256"] for out in row["outputs"]]
        assert [hashlib.sha256(file).hexdigest() for file in files] == said, row
        found[row["id"]] = row["status"], files
    assert len(found) == len(rows)
    return found


@pytest.mark.slow
def test_sixty_rows_in_and_out_of_s3_while_a_request_in_twenty_is_answered_503(
    s3: FaultProxy,
    manifest: Callable[..., str],
    tmp_path: Path,
    photographs: dict[str, bytes],
    pocket: ModelSpec,
) -> None:
    rows, spec = good_rows(60), dry(pocket)
    fs = fsspec.filesystem("s3")
    for name, data in photographs.items():
        fs.pipe_file(f"bucket/{name}.jpg", data)
    local = manifest(rows)
    fs.pipe_file("bucket/manifest.parquet", Path(local).read_bytes())
    assert run_job(local, tmp_path / "out", spec=spec) == Exit.OK
    undisturbed = outcomes(str(tmp_path / "out"))

    s3.rate = 0.05
    try:
        for _ in range(2):
            code = run_job(f"{BUCKET}/manifest.parquet", f"{BUCKET}/out", spec=spec)
            assert code == Exit.OK
    finally:
        s3.rate = 0.0
    assert s3.faults > 5
    disturbed = outcomes(f"{BUCKET}/out")
    assert disturbed.keys() == undisturbed.keys()
    others = [(id, disturbed[id], undisturbed[id]) for id in disturbed]
    assert [pair for pair in others if pair[1] != pair[2]] == []
    images = fs.find("bucket/out/images")
    assert len(images) == 60
    success: dict[str, Any] = json.loads(Storage(f"{BUCKET}/out").read("_SUCCESS"))
    assert (success["ok"], success["error"]) == (60, 0)

    exported = f"{BUCKET}/export.jsonl"
    command = ["export", f"{BUCKET}/out", "--to", "openai-batch", "--dest", exported]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0, result.output
    lines = [json.loads(line) for line in fs.cat_file(exported).splitlines()]
    exported_files = {
        line["custom_id"]: [base64.b64decode(line["response"]["body"]["data"][0]["b64_json"])]
        for line in lines
    }
    assert exported_files == {id: files for id, (_, files) in undisturbed.items()}

    command = ["export", f"{BUCKET}/out", "--keep-names", "--dest", f"{BUCKET}/delivery"]
    for there in ("", ", 60 there before"):
        assert CliRunner().invoke(app, command).stdout == f"{BUCKET}/delivery 60 pictures{there}\n"
        assert len(fs.find("bucket/delivery")) == 60
    assert fs.exists("bucket/delivery/coffee - make it blue - row-1.png")
    pages = fs.cat_file("bucket/out/report/pairs-1.html").decode()
    assert pages.count('src="../../coffee.jpg"') == 15


def test_a_bucket_that_nobody_made_is_refused_at_once(s3: FaultProxy) -> None:
    with pytest.raises(OutputUnusable, match="bucket does not exist"):
        Storage.open("s3://nobodys/out")


@pytest.mark.slow
def test_storage_that_comes_back_is_asked_again(s3: FaultProxy) -> None:
    storage = Storage(f"{BUCKET}/outage")
    storage.publish("x", b"1")
    s3.outage = 7  # the client itself gives up after five
    assert storage.read("x") == b"1"
    s3.outage = 7
    storage.publish("x", b"2")
    assert s3.outage == 0
    assert storage.read("x") == b"2"


def test_of_many_jobs_that_start_at_once_on_s3_one_wins(s3: FaultProxy) -> None:
    won, lost = [], []
    start, finish = threading.Barrier(6), threading.Event()

    def compete() -> None:
        start.wait()
        try:
            with Lease(Storage(f"{BUCKET}/lease")):
                won.append(1)
                finish.wait(20)
        except OutputBusy:
            lost.append(1)
        if len(lost) == 5:
            finish.set()

    threads = [threading.Thread(target=compete) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(won), len(lost)) == (1, 5)
