"""Manifests over real photographs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest


@pytest.fixture
def manifest(tmp_path: Path, photographs: dict[str, bytes]) -> Callable[..., str]:
    """manifest(rows, name) -> path of a Parquet file beside the photographs."""
    for name, data in photographs.items():
        (tmp_path / f"{name}.jpg").write_bytes(data)

    def write(rows: list[dict[str, Any]], name: str = "manifest.parquet") -> str:
        columns = {key: [row.get(key) for row in rows] for row in rows for key in row}
        pq.write_table(pa.table(columns), tmp_path / name)
        return str(tmp_path / name)

    return write


@pytest.fixture
def masked_rows(photographs: dict[str, bytes]) -> list[dict[str, Any]]:
    """Rows for `manifests.write_masked`: the coffee with a mask and without one."""
    from tests.batch_jobs.manifests import FOG, mask_png

    row = {"image": photographs["coffee"], **FOG}
    mask = mask_png((600, 400), box=(100, 80, 300, 200))
    return [{"id": "a", **row, "mask": mask}, {"id": "b", **row}]
