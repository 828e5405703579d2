"""The pods of a cluster fetch weights once: they share a volume, and take a token from a Secret."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parent.parent
CLUSTER = ROOT / "configs" / "cluster"
CLAIM = yaml.safe_load((CLUSTER / "weights.yaml").read_text())
DOCKERFILE = (ROOT / "Dockerfile").read_text()


def pods(name: str) -> Iterator[dict[str, Any]]:
    spec = yaml.safe_load((CLUSTER / name).read_text())["spec"]
    cluster = spec["rayClusterConfig" if name == "rayservice.yaml" else "rayClusterSpec"]
    for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
        yield group["template"]["spec"]


@pytest.mark.parametrize("name", ["rayservice.yaml", "rayjob.yaml"])
def test_every_pod_keeps_weights_on_the_claim_and_may_send_a_token(name: str) -> None:
    (cache,) = re.findall(r"(/home/\S+/\.cache/huggingface)", DOCKERFILE)
    (user,) = re.findall(r"--uid (\d+) --create-home (\w+)", DOCKERFILE)
    assert cache.startswith(f"/home/{user[1]}/")
    found = list(pods(name))
    assert len(found) == 2
    for pod in found:
        (volume,) = pod["volumes"]
        assert volume["persistentVolumeClaim"] == {"claimName": CLAIM["metadata"]["name"]}
        assert pod["securityContext"] == {"fsGroup": int(user[0])}
        (container,) = pod["containers"]
        assert container["volumeMounts"] == [{"name": volume["name"], "mountPath": cache}]
        (token,) = [entry for entry in container["env"] if entry["name"] == "HF_TOKEN"]
        assert token["valueFrom"]["secretKeyRef"]["optional"] is True


def test_the_claim_is_one_that_several_nodes_read_at_once() -> None:
    assert (CLAIM["apiVersion"], CLAIM["kind"]) == ("v1", "PersistentVolumeClaim")
    assert CLAIM["spec"]["accessModes"] == ["ReadWriteMany"]
    assert CLAIM["spec"]["resources"]["requests"]["storage"].endswith("Gi")
