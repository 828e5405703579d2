"""On a cluster the job of a batch is a Ray job: one, however many ingresses look after it."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import ray
from ray.cluster_utils import Cluster
from ray.job_submission import JobSubmissionClient

from serve_app.batches.keeper import BatchKeeper
from serve_app.batches.ray_jobs import RayJobs
from storage.batch_store import BatchOrder, BatchStore, open_batches
from storage.storage import Storage
from tests.serve_app.batch_lines import edit_lines
from tests.serving import SMALL, eventually, free_port

pytestmark = pytest.mark.slow  # a head of its own, with a dashboard

JOB = {"engine": {**SMALL, "model": "pocket"}, "max_workers": 1, "seed": 1}


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """A head that takes jobs; this process is in it, as an ingress is."""
    with (
        tempfile.TemporaryDirectory(prefix="ray-") as folder,  # a socket's path must be short
        pytest.MonkeyPatch.context() as environment,
    ):
        environment.setenv("RAY_TMPDIR", folder)
        args = {"num_cpus": 8, "include_dashboard": True, "dashboard_port": free_port()}
        args["dashboard_agent_listen_port"] = free_port()  # 52365 may be another cluster's
        cluster = Cluster(initialize_head=True, head_node_args=args)
        ray.init(address=cluster.address, log_to_driver=False)
        try:
            yield cluster.address
        finally:
            ray.shutdown()
            cluster.shutdown()


def test_a_batch_is_one_job_of_the_cluster(
    address: str, tmp_path: Path, photographs: dict[str, bytes]
) -> None:
    storage = Storage(str(tmp_path))
    batches = BatchStore(storage, "everybody")
    text = "".join(f"{line}\n" for line in _json(photographs["coffee"]))
    asked = batches.files.add(text.encode(), "lines.jsonl", "batch", None)
    now, id = int(time.time()), batches.new_id()
    models = ("pocket", {"pocket": "pocket"}, {"pocket": JOB})
    order = (asked.id, "/v1/images/edits", "24h", now, now + 86_400, *models)
    batches.create(BatchOrder(id, *order))
    keepers = [BatchKeeper(storage, RayJobs(storage.url), at_once=1) for _ in range(2)]

    for keeper in keepers:
        keeper.start()
    try:
        over = eventually(lambda: open_batches(storage) == [], 200)
    finally:
        for keeper in keepers:
            keeper.close()
    client = JobSubmissionClient(address)
    jobs = [job for job in client.list_jobs() if (job.submission_id or "").startswith(id)]
    assert over, [client.get_job_logs(job.submission_id)[-3000:] for job in jobs]
    assert [job.submission_id for job in jobs] == [f"{id}-1"]
    state = batches.state(id)
    assert (state.status, state.completed, state.failed) == ("completed", 2, 0)
    assert state.output_file_id is not None and batches.files.find(state.output_file_id)


def _json(photograph: bytes) -> list[str]:
    import json

    return [json.dumps(line) for line in edit_lines(photograph, 2)]
