"""The Kubernetes manifest is what KubeRay, Serve and this server read."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from ray.serve.schema import ServeDeploySchema

from engine.config import load_config
from engine.images import MAX_BYTES
from engine.registry import find_model
from serve_app.config import ServeConfig
from serve_app.ingress.keys import KEYS_VARIABLE
from serve_app.proxy.guard import guarded_environment

ROOT = Path(__file__).parents[2]
CONFIGS = ROOT / "configs"

# KubeRay's CRD (ray-operator/config/crd/bases/ray.io_rayservices.yaml of August 2026), as far as
# the manifest goes: path of an object -> its required keys, and others that it may have.
CRD: dict[str, tuple[set[str], set[str]]] = {
    "": ({"apiVersion", "kind", "metadata", "spec"}, set()),
    "spec": (
        {"rayClusterConfig"},
        {"serveConfigV2", "upgradeStrategy", "rayClusterDeletionDelaySeconds"},
    ),
    "spec.upgradeStrategy": (set(), {"type", "clusterUpgradeOptions"}),
    "spec.rayClusterConfig": (
        {"headGroupSpec"},
        {
            "rayVersion",
            "enableInTreeAutoscaling",
            "autoscalerOptions",
            "authOptions",
            "workerGroupSpecs",
        },
    ),
    "spec.rayClusterConfig.autoscalerOptions": (set(), {"idleTimeoutSeconds", "version"}),
    "spec.rayClusterConfig.authOptions": (set(), {"mode", "secretName", "enableK8sTokenAuth"}),
    "spec.rayClusterConfig.headGroupSpec": ({"template"}, {"rayStartParams", "serviceType"}),
    "spec.rayClusterConfig.workerGroupSpecs.0": (
        {"groupName", "minReplicas", "maxReplicas", "template"},
        {"replicas", "rayStartParams", "numOfHosts"},
    ),
}


@pytest.fixture(scope="module")
def manifest() -> dict[str, Any]:
    return yaml.safe_load((CONFIGS / "cluster" / "rayservice.yaml").read_text())


@pytest.fixture(scope="module")
def deployed(manifest: dict[str, Any]) -> ServeDeploySchema:
    return ServeDeploySchema.model_validate(yaml.safe_load(manifest["spec"]["serveConfigV2"]))


def at(manifest: Any, path: str) -> Any:
    for key in path.split(".") if path else ():
        manifest = manifest[int(key) if key.isdigit() else key]
    return manifest


def containers(manifest: dict[str, Any]) -> Iterator[dict[str, Any]]:
    cluster = manifest["spec"]["rayClusterConfig"]
    for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
        yield from group["template"]["spec"]["containers"]


@pytest.mark.parametrize("path", sorted(CRD))
def test_the_manifest_has_the_keys_that_kuberay_needs_and_no_unknown_one(
    manifest: dict[str, Any], path: str
) -> None:
    required, optional = CRD[path]
    keys = set(at(manifest, path))
    assert required <= keys <= required | optional


def test_it_is_a_ray_service_of_this_ray(manifest: dict[str, Any]) -> None:
    assert (manifest["apiVersion"], manifest["kind"]) == ("ray.io/v1", "RayService")
    version = manifest["spec"]["rayClusterConfig"]["rayVersion"]
    assert f"ray=={version}" in (ROOT / "requirements.lock").read_text().splitlines()


def test_start_parameters_are_text_as_the_crd_has_them(manifest: dict[str, Any]) -> None:
    cluster = manifest["spec"]["rayClusterConfig"]
    groups = (cluster["headGroupSpec"], *cluster["workerGroupSpecs"])
    values = [value for group in groups for value in group["rayStartParams"].values()]
    entries = [entry for pod in containers(manifest) for entry in pod["env"]]
    variables = [entry["value"] for entry in entries if "value" in entry]
    assert [value for value in values + variables if not isinstance(value, str)] == []


def test_serve_and_this_server_accept_what_it_deploys(deployed: ServeDeploySchema) -> None:
    (application,) = deployed.applications
    assert application.import_path == "serve_app.app:build_app"
    config = ServeConfig.of(application.args)
    assert config == load_config(CONFIGS / "serve" / "gpu.yaml", ServeConfig)
    assert find_model(config.engine.model)
    assert (deployed.http_options.request_timeout_s or 0) > config.deadline_s


def test_every_node_guards_its_proxy(manifest: dict[str, Any]) -> None:
    guarded = guarded_environment(MAX_BYTES)
    pods = list(containers(manifest))
    assert len(pods) == 2
    for pod in pods:
        variables = {entry["name"]: entry.get("value") for entry in pod["env"]}
        assert guarded.items() <= variables.items()


def test_the_nodes_hold_every_replica_and_outlive_their_edits(
    manifest: dict[str, Any], deployed: ServeDeploySchema
) -> None:
    config = ServeConfig.of(deployed.applications[0].args)
    (workers,) = manifest["spec"]["rayClusterConfig"]["workerGroupSpecs"]
    (pod,) = workers["template"]["spec"]["containers"]
    limits = pod["resources"]["limits"]
    a_node = int(float(limits["nvidia.com/gpu"]) // config.num_gpus)
    assert workers["maxReplicas"] * a_node >= config.max_replicas
    assert float(limits["cpu"]) >= config.num_cpus * a_node + config.ingress_replicas * 0.5
    assert workers["template"]["spec"]["terminationGracePeriodSeconds"] > config.deadline_s + 5
    assert manifest["spec"]["rayClusterDeletionDelaySeconds"] > config.deadline_s + 5


def test_the_keys_of_clients_come_from_a_secret_and_stand_nowhere_else(
    manifest: dict[str, Any],
) -> None:
    for pod in containers(manifest):
        (keys,) = [entry for entry in pod["env"] if entry["name"] == KEYS_VARIABLE]
        assert set(keys) == {"name", "valueFrom"}
        assert set(keys["valueFrom"]["secretKeyRef"]) == {"name", "key"}
    assert "insecure_public" not in manifest["spec"]["serveConfigV2"]


def test_strangers_cannot_run_code_on_the_cluster(manifest: dict[str, Any]) -> None:
    assert manifest["spec"]["rayClusterConfig"]["authOptions"]["mode"] == "token"
