"""The benchmarks run, and count what they say they count."""

from __future__ import annotations

import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from benchmarks.arithmetic import Flops
from benchmarks.rivals import spec_of
from benchmarks.workloads import mixed, uniform, without_row_packing
from engine import EngineConfig
from engine.loading import load_model

BENCHMARKS = sorted(
    file.stem for file in (Path(__file__).parent.parent / "benchmarks").glob("*.py")
)


@pytest.mark.parametrize("name", BENCHMARKS)
def test_a_benchmark_finds_all_that_it_takes_from_the_project(name: str) -> None:
    importlib.import_module(f"benchmarks.{name}")


@pytest.mark.slow
def test_the_ladder_prints_a_ratio_for_every_rung() -> None:
    command = "benchmarks.bench_engine --ladder --sides 64 --requests 2 --steps 2 --pairs 1"
    run = subprocess.run(
        [sys.executable, "-m", *command.split()], capture_output=True, text=True, check=True
    )
    rungs = re.findall(r"^(\S.*?) {2,}([\d.]+) \([\d.]+ - [\d.]+\)", run.stdout, re.MULTILINE)
    assert [name for name, _ in rungs] == [
        "diffusers, one by one",
        "loop, one by one",
        "+ channels last",
        "diffusers, batches of 4",
        "+ batches of 4",
        "+ row packing",
    ] or torch.cuda.is_available()
    assert float(rungs[0][1]) == 1.0


def test_arithmetic_is_counted_by_the_rows_that_guidance_needs() -> None:
    spec = spec_of("pocket")
    work = mixed(spec, 12, 64)
    flops = Flops(load_model(spec, EngineConfig(device="cpu")).editor, work[0])
    assert flops.of(without_row_packing(work)) > flops.of(work)
    one, two = (flops.of(uniform(spec, 1, 64, steps)) for steps in (10, 20))
    assert one < two < 2 * one


@pytest.mark.chaos
def test_styles_are_read_seldom_where_an_edit_goes_to_a_replica_that_has_its_own() -> None:
    """Two real replicas, four LoRAs of which each holds two; the bytes are equal, or it fails."""
    command = "benchmarks.bench_style_routing --requests 32 --rounds 1"
    run = subprocess.run(
        [sys.executable, "-m", *command.split()], capture_output=True, text=True, check=True
    )
    loads = dict(re.findall(r"^(.+): loads of 32 mixed edits \[(\d+)\]", run.stdout, re.MULTILINE))
    anywhere, batch, full = (
        int(loads[way])
        for way in ("any replica", "one that has it, a batch", "one that has it, all")
    )
    assert 4 * full <= anywhere and batch < anywhere
