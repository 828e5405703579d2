"""What `detail` and `preserve` cost a job and a server: the same edits with and without, in turn.

Both return the source's size. What is compared is the reconstruction, the finishing, and the way
of a PNG that is half as large again, since it has the source's detail.

    python -m benchmarks.bench_finish                              # a job: images/s
    python -m benchmarks.bench_finish --distinct                   # each row has its own photograph
    python -m benchmarks.bench_finish --url http://127.0.0.1:8000  # a server that runs: ms an edit
"""

from __future__ import annotations

import argparse
import io
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import httpx
import pyarrow as pa
import pyarrow.parquet as pq
import skimage.data
from PIL import Image

from batch_jobs.config import JobConfig
from benchmarks.bench_batch import run_job
from benchmarks.workloads import INSTRUCTIONS, PHOTOGRAPHS, print_machine
from engine.config import EngineConfig
from engine.options import EditOptions

SIDE_PX = 1024  # of the sources
WAYS: dict[str, dict[str, Any]] = {
    "without": {"detail": "model", "preserve": "off", "restore_size": True},
    "with": {"detail": "source", "preserve": "auto", "restore_size": True},
}


def photograph(number: int) -> bytes:
    """A photograph of `SIDE_PX` a side as JPEG; beyond the first ones each is a cut of one."""
    cut, which = divmod(number, len(PHOTOGRAPHS))
    image = Image.fromarray(getattr(skimage.data, PHOTOGRAPHS[which])())
    margin = cut * min(image.size) / 1000
    image = image.resize((SIDE_PX, SIDE_PX), box=(margin, margin, *image.size))
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=92)
    return buffer.getvalue()


def write_manifest(folder: Path, rows: int, photographs: int = len(PHOTOGRAPHS)) -> None:
    """Write so many photographs, and `manifest.parquet` with so many edits of them."""
    for number in range(photographs):
        (folder / f"{number}.jpg").write_bytes(photograph(number))
    table = [
        {
            "id": f"row-{i}",
            "image": f"{i % photographs}.jpg",
            "instruction": INSTRUCTIONS[i % len(INSTRUCTIONS)],
            "seed": i,
        }
        for i in range(rows)
    ]
    pq.write_table(pa.Table.from_pylist(table), folder / "manifest.parquet")


def compare_jobs(rows: int, photographs: int, pairs: int) -> None:
    """Print images/s of a job with and without, and their ratio."""
    speeds: dict[str, list[float]] = {name: [] for name in WAYS}
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        write_manifest(folder, rows, photographs)
        for pair in range(pairs):
            for way in list(WAYS)[:: 1 if pair % 2 else -1]:
                config = JobConfig(engine=EngineConfig(options=EditOptions(**WAYS[way])))
                speeds[way].append(run_job(folder, folder / f"{way}-{pair}", config))
            print({way: round(found[-1], 3) for way, found in speeds.items()}, flush=True)
    means = {way: statistics.harmonic_mean(found) for way, found in speeds.items()}
    print(f"job, images/s with / without: {means['with'] / means['without']:.3f}")


def compare_requests(url: str, pairs: int) -> None:
    """Print the median of an edit's ms with and without, and of their difference."""
    image = photograph(0)
    times: dict[str, list[float]] = {way: [] for way in WAYS}
    with httpx.Client(base_url=url, timeout=120) as client:
        for pair in range(-3, pairs):  # the first warm up
            for way in list(WAYS)[:: 1 if pair % 2 else -1]:
                fields = {name: str(value).lower() for name, value in WAYS[way].items()}
                fields |= {"prompt": INSTRUCTIONS[0], "seed": str(pair + 3)}
                start = time.perf_counter()
                files = {"image": ("photo.jpg", image)}
                client.post("/v1/images/edits", data=fields, files=files).raise_for_status()
                if pair >= 0:
                    times[way].append(1000 * (time.perf_counter() - start))
    more = [a - b for a, b in zip(times["with"], times["without"], strict=True)]
    medians = {way: round(statistics.median(found)) for way, found in times.items()}
    print(f"server, ms: {medians}, the difference {statistics.median(more):.0f}")


def main() -> None:
    """See the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", help="of a server that runs")
    parser.add_argument("--rows", type=int, default=32, help="of a job")
    parser.add_argument("--distinct", action="store_true", help="a photograph for each row")
    parser.add_argument("--pairs", type=int, default=4)
    args = parser.parse_args()
    print_machine(EngineConfig().threads)
    if args.url:
        compare_requests(args.url, args.pairs)
    else:
        compare_jobs(args.rows, args.rows if args.distinct else len(PHOTOGRAPHS), args.pairs)


if __name__ == "__main__":
    main()
