"""What `/metrics` answers: our figures from Ray's Prometheus endpoint on each node, as one page."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from urllib.request import urlopen

from engine.errors import NotReady

logger = logging.getLogger("ray.serve")

PREFIX = "ray_rayedit_"  # Ray puts `ray_` before each name of ours
TIMEOUT_S = 5.0


def read_metrics(urls: Sequence[str]) -> str:
    """Read the endpoints at `urls`, and join our figures of them. One that does not answer is left
    out; raises `NotReady` where none does."""
    with ThreadPoolExecutor(max(len(urls), 1)) as threads:
        pages = [page for page in threads.map(_read, urls) if page is not None]
    if not pages:
        raise NotReady("no node of Ray tells its metrics: see the logs of its dashboard agents")
    return joined(pages)


def joined(pages: Iterable[str]) -> str:
    """Join pages of Prometheus' text format: the lines of one metric stand together, as the format
    wants them, and what is not of rayedit is left out."""
    heads: dict[str, list[str]] = {}
    samples: dict[str, list[str]] = {}
    for page in pages:
        metric = ""
        for line in page.splitlines():
            if line.startswith(("# HELP ", "# TYPE ")):
                metric = line.split(" ", 3)[2]
                if line not in heads.setdefault(metric, []):
                    heads[metric].append(line)
            elif line:
                samples.setdefault(metric, []).append(line)
    ours = [metric for metric in samples if metric.startswith(PREFIX)]
    return "".join(f"{line}\n" for name in ours for line in heads[name] + samples[name])


def _read(url: str) -> str | None:
    try:
        with urlopen(url, timeout=TIMEOUT_S) as answer:
            return str(answer.read().decode())
    except OSError as error:
        logger.warning("%s does not answer: %s", url, error)
        return None
