"""`/metrics`: what every node of Ray tells, as one page."""

from __future__ import annotations

import pytest
from starlette.responses import PlainTextResponse

from engine.errors import NotReady
from serve_app.ingress.prometheus import joined, read_metrics
from tests.serve_app.local import over_http
from tests.serving import free_port

HEAD = "# HELP ray_rayedit_images_total edited images\n# TYPE ray_rayedit_images_total counter\n"
STEP = "# HELP ray_rayedit_step_seconds a step\n# TYPE ray_rayedit_step_seconds histogram\n"
OTHER = "# HELP ray_tasks tasks\n# TYPE ray_tasks gauge\n"


def page(node: str) -> str:
    images = f'ray_rayedit_images_total{{node="{node}"}} 3.0\n'
    steps = (
        f'ray_rayedit_step_seconds_bucket{{node="{node}",le="0.1"}} 2.0\n'
        f'ray_rayedit_step_seconds_count{{node="{node}"}} 2.0\n'
    )
    return f"{HEAD}{images}{OTHER}ray_tasks{{}} 7.0\n{STEP}{steps}"


def test_the_lines_of_a_metric_stand_together_below_one_head() -> None:
    lines = joined([page("a"), page("b")]).splitlines()
    assert lines[:2] == HEAD.splitlines() and lines[4:6] == STEP.splitlines()
    assert [line.split("{")[0] for line in lines[2:4]] == 2 * ["ray_rayedit_images_total"]
    assert len(lines) == 10 and not any("tasks" in line for line in lines)
    assert joined([page("a")]).count("\n") == 7


def test_a_node_that_does_not_answer_is_left_out() -> None:
    with over_http(PlainTextResponse(page("a"))) as url:
        gone = f"http://127.0.0.1:{free_port()}/metrics"
        assert read_metrics([gone, url]) == joined([page("a")])
        with pytest.raises(NotReady):
            read_metrics([gone])
    with pytest.raises(NotReady):
        read_metrics([])
