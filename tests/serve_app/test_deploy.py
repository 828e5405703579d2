"""`serve deploy` of several models: one more leaves the others' replicas alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import ray
import yaml
from ray import serve
from ray.serve.context import _get_global_client
from ray.serve.schema import ApplicationStatus, ServeDeploySchema

from tests.serving import eventually, free_port

pytestmark = pytest.mark.chaos  # minutes: a Ray of its own, and three deployments

TIMEOUT_S = 180.0
CONFIG = Path(__file__).parents[2] / "configs" / "serve" / "deploy-models.yaml"
SMALL = {"resolution": 64, "num_threads": 1}


@pytest.fixture
def cluster() -> Iterator[int]:
    """A Ray with Serve at this port."""
    port = free_port()
    ray.init(address="local", num_cpus=8, include_dashboard=False)
    serve.start(http_options={"host": "127.0.0.1", "port": port})
    yield port
    serve.shutdown()
    ray.shutdown()


def applications(**models: dict[str, Any]) -> dict[str, Any]:
    """What the shipped file says of these models, on a CPU."""
    shipped = yaml.safe_load(CONFIG.read_text())
    (ingress,) = [each for each in shipped["applications"] if each["route_prefix"] == "/"]
    ingress["args"] = {"models": models, "decode_workers": 1}
    one = next(each for each in shipped["applications"] if each["route_prefix"] is None)
    others = [
        {**one, "name": name, "args": {"models": {name: model}}} for name, model in models.items()
    ]
    return {"applications": [ingress, *others]}


def deployed(config: dict[str, Any]) -> dict[str, str]:
    """Apply it as the command does; the actor of each application's replica, once all run."""
    client: Any = _get_global_client()
    client.deploy_apps(ServeDeploySchema.model_validate(config))
    names = {application["name"] for application in config["applications"]}

    def run() -> bool:
        found = serve.status().applications
        return set(found) == names and all(
            each.status == ApplicationStatus.RUNNING for each in found.values()
        )

    assert eventually(run, TIMEOUT_S), serve.status()
    details = client.get_serve_details()["applications"]
    return {
        name: replica["actor_id"]
        for name, application in details.items()
        for deployment in application["deployments"].values()
        for replica in deployment["replicas"]
        if replica["state"] == "RUNNING"
    }


def test_one_more_model_leaves_the_replicas_of_the_others_as_they_are(
    cluster: int, photographs: dict[str, bytes], tiny: Callable[[str], Path]
) -> None:
    import httpx

    from tests.serve_app.conftest import post_form

    pocket = {"engine": {"model": "pocket", **SMALL}}
    kontext = {"engine": {"model": str(tiny("flux-kontext")), **SMALL}}
    before = deployed(applications(pocket=pocket))
    after = deployed(applications(pocket=pocket, kontext=kontext))
    assert set(after) == {"rayedit", "pocket", "kontext"}
    assert after["pocket"] == before["pocket"]
    assert after["rayedit"] != before["rayedit"]
    with httpx.Client(base_url=f"http://127.0.0.1:{cluster}", timeout=120) as client:
        for model in ("pocket", "kontext"):
            answer = post_form(client, photographs["coffee"], model=model, num_inference_steps=2)
            assert (answer.status_code, answer.json().get("model")) == (200, model)
