"""Rows to check, and the check of a manifest over them."""

from __future__ import annotations

from typing import Any

from batch_jobs.config import JobConfig
from batch_jobs.manifest.plan import open_manifest
from batch_jobs.validation.check import ManifestCheck
from engine.registry import find_model

POCKET = find_model("pocket")
GOOD = {"image": "coffee.jpg", "instruction": "add fog", "num_inference_steps": 2}


def rows(count: int, **cells: Any) -> list[dict[str, Any]]:
    return [{"id": f"row-{i}", **GOOD, **cells} for i in range(count)]


def checked(manifest: str, images: int = 20, **config: Any) -> ManifestCheck:
    check = ManifestCheck(open_manifest(manifest), JobConfig(**config), POCKET)
    check.check_rows()
    check.check_images(images)
    return check
