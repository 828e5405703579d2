"""The metric that both the proxy and the ingress count; `ray_` stands before every name of ours on
Ray's Prometheus endpoint."""

from __future__ import annotations

from ray.util.metrics import Counter


def requests_counter() -> Counter:
    """Make the counter of edits by the code with which they ended, and by their model, which the
    proxy does not know."""
    counter = Counter("rayedit_requests_total", "edits by how they ended", ("code", "model"))
    counter.set_default_tags({"model": ""})
    return counter
