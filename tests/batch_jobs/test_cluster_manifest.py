"""The Kubernetes manifest of a job is what KubeRay and the job read."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml

from batch_jobs.config import JobConfig
from batch_jobs.stopping import Exit
from engine.config import load_config
from engine.registry import find_model

ROOT = Path(__file__).parents[2]
CLUSTER = ROOT / "configs" / "cluster"

# KubeRay's CRD (ray-operator/config/crd/bases/ray.io_rayjobs.yaml of August 2026), as far as the
# manifest goes: path of an object -> its required keys, and others that it may have.
CRD: dict[str, tuple[set[str], set[str]]] = {
    "": ({"apiVersion", "kind", "metadata", "spec"}, set()),
    "spec": (
        {"entrypoint", "rayClusterSpec"},
        {
            "activeDeadlineSeconds",
            "backoffLimit",
            "preRunningDeadlineSeconds",
            "runtimeEnvYAML",
            "shutdownAfterJobFinishes",
            "submissionMode",
            "ttlSecondsAfterFinished",
        },
    ),
    "spec.rayClusterSpec": (
        {"headGroupSpec"},
        {
            "rayVersion",
            "enableInTreeAutoscaling",
            "autoscalerOptions",
            "authOptions",
            "workerGroupSpecs",
        },
    ),
    "spec.rayClusterSpec.headGroupSpec": ({"template"}, {"rayStartParams", "serviceType"}),
    "spec.rayClusterSpec.workerGroupSpecs.0": (
        {"groupName", "minReplicas", "maxReplicas", "template"},
        {"replicas", "rayStartParams", "numOfHosts"},
    ),
}
TYPES = {
    "entrypoint": str,
    "runtimeEnvYAML": str,
    "submissionMode": str,
    "backoffLimit": int,
    "ttlSecondsAfterFinished": int,
    "shutdownAfterJobFinishes": bool,
}


@pytest.fixture(scope="module")
def manifest() -> dict[str, Any]:
    return yaml.safe_load((CLUSTER / "rayjob.yaml").read_text())


@pytest.fixture(scope="module")
def config() -> JobConfig:
    return load_config(CLUSTER / "job.yaml", JobConfig)


@pytest.mark.parametrize("path", sorted(CRD))
def test_the_manifest_has_the_keys_that_kuberay_needs_and_no_unknown_one(
    manifest: dict[str, Any], path: str
) -> None:
    part: Any = manifest
    for key in path.split(".") if path else ():
        part = part[int(key) if key.isdigit() else key]
    required, optional = CRD[path]
    assert required <= set(part) <= required | optional


def test_it_is_a_ray_job_of_this_ray_and_its_values_have_the_crds_types(
    manifest: dict[str, Any],
) -> None:
    assert (manifest["apiVersion"], manifest["kind"]) == ("ray.io/v1", "RayJob")
    spec = manifest["spec"]
    assert {name for name, kind in TYPES.items() if type(spec[name]) is not kind} == set()
    assert spec["submissionMode"] in ("K8sJobMode", "HTTPMode", "InteractiveMode", "SidecarMode")
    version = spec["rayClusterSpec"]["rayVersion"]
    assert f"ray=={version}" in (ROOT / "requirements.lock").read_text().splitlines()


def test_its_entrypoint_is_the_job_with_a_configuration_of_this_repository(
    manifest: dict[str, Any], config: JobConfig
) -> None:
    shell = shlex.split(manifest["spec"]["entrypoint"])
    assert (shell[:2], len(shell)) == (["bash", "-c"], 3)  # one word, for the job's own shell
    words = shlex.split(shell[2])
    assert words[:3] == ["python", "-m", "batch_jobs"]
    path = words[words.index("--config") + 1]
    assert load_config(ROOT / path.removeprefix("/app/"), JobConfig) == config
    assert find_model(config.engine.model)
    assert words[-5:] == ["||", "test", "$?", "-eq", str(int(Exit.FAILED_ROWS))]


def test_its_runtime_environment_is_one_that_ray_accepts(manifest: dict[str, Any]) -> None:
    from ray.runtime_env import RuntimeEnv

    environment = yaml.safe_load(manifest["spec"]["runtimeEnvYAML"])
    assert RuntimeEnv(**environment).env_vars()["AWS_DEFAULT_REGION"]


def test_the_nodes_hold_every_worker_of_the_job(
    manifest: dict[str, Any], config: JobConfig
) -> None:
    cluster = manifest["spec"]["rayClusterSpec"]
    (workers,) = cluster["workerGroupSpecs"]
    (pod,) = workers["template"]["spec"]["containers"]
    gpus = float(pod["resources"]["limits"]["nvidia.com/gpu"])
    assert workers["maxReplicas"] * gpus // config.num_gpus >= (config.max_workers or 1)
    assert cluster["authOptions"]["mode"] == "token"
