"""How far a job is, and how fast: what people read while it runs."""

from __future__ import annotations

import json
from typing import Any

import pytest

from batch_jobs.progress import POINTS, JobProgress


class Clock:
    """Stands still until it is told to go on."""

    now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def test_the_speed_counts_neither_the_models_load_nor_rays_end() -> None:
    clock = Clock()
    progress = JobProgress(40, clock=clock)
    clock.now_s += 30  # the model loads
    for _ in range(3):
        clock.now_s += 2
        progress.add(done=4, failed=1, images=3)
    clock.now_s += 5  # Ray ends
    assert progress.images_per_s == pytest.approx(3 / 2)
    assert progress.rows_per_s == pytest.approx(4 / 2)
    assert progress.elapsed_s == pytest.approx(41)


def test_the_speed_of_several_workers_begins_when_each_has_ended_a_block() -> None:
    clock = Clock()
    progress = JobProgress(40, clock=clock)
    progress.workers = 2
    for _ in range(5):
        clock.now_s += 0.1
        for _ in range(2):  # both at once: two blocks in 0.1 s
            progress.add(done=4, failed=0, images=4)
    assert progress.images_per_s == pytest.approx(80)  # with one block too many 90


def test_the_speed_of_few_blocks_is_that_of_the_whole_run() -> None:
    clock = Clock()
    progress = JobProgress(4, clock=clock)
    clock.now_s += 8
    progress.add(done=4, failed=0, images=4)
    assert progress.images_per_s == pytest.approx(0.5)
    assert progress.speed_over_time() == [(8.0, 0.5)]


def test_the_curve_begins_when_editing_does_and_agrees_with_the_rows() -> None:
    clock = Clock()
    progress = JobProgress(40, clock=clock)
    progress.workers = 2
    for seconds in (29.5, 1.5, 1, 1, 1, 1):  # the models load: one is a little faster
        clock.now_s += seconds
        progress.add(done=4, failed=0, images=4)
    assert (progress.begin_s, progress.editing_s) == (29.0, 6.0)
    assert progress.images_per_s == pytest.approx(24 / 6)
    assert progress.speed_over_time() == [
        (2.0, 4.0),
        (3.0, 4.0),
        (4.0, 4.0),
        (5.0, 4.0),
        (6.0, 4.0),
    ]


def test_lines_come_before_the_first_row_is_done(capsys: pytest.CaptureFixture[str]) -> None:
    lines: list[dict[str, Any]] = []
    with JobProgress(40, line_every_s=0.01):
        while len(lines) < 3:  # the model loads
            lines += [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert {(line["done"], line["total"]) for line in lines} == {(0, 40)}


def test_a_long_run_keeps_few_points(capsys: pytest.CaptureFixture[str]) -> None:
    progress = JobProgress(100_000)
    for _ in range(5000):
        progress.add(done=1, failed=0, images=1)
    points = progress.speed_over_time()
    assert 2 <= len(points) <= POINTS + 1
    assert [seconds for seconds, _ in points] == sorted(seconds for seconds, _ in points)
    assert capsys.readouterr().err.count("\n") <= 2
