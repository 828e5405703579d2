"""What a process of a job keeps of the memory that it frees, as the kernel counts it."""

from __future__ import annotations

import subprocess
import sys

import pytest

CODE = """
import resource
import numpy as np
import psutil
from batch_jobs.stages.pipeline import keeping_memory

@keeping_memory
def task(mebibytes):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    blocks = [np.ones(1 << 20, np.uint8) for _ in range(mebibytes)]
    del blocks
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

def resident_mib():
    return psutil.Process().memory_info().rss >> 20

task(40)
faults, before = sum(task(40) for _ in range(5)), resident_mib()
task(600)
print(faults, resident_mib() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="of glibc's allocator")
def test_a_task_keeps_what_a_photograph_takes_and_not_what_the_largest_one_took() -> None:
    """40 MiB are 10,240 pages of 4 KiB: 51,000 page faults in five tasks that keep nothing."""
    command = [sys.executable, "-W", "ignore", "-c", CODE]
    shown = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    faults, grown_mib = map(int, shown.split())
    assert faults < 10_000 and grown_mib < 100
