"""Over Ray a factory makes what it makes in one process: its models are in actors."""

from __future__ import annotations

from pathlib import Path

import pytest

from batch_jobs.stopping import Exit
from engine.config import EngineConfig
from engine.options import EditOptions
from tests.batch_jobs.jobs import ledger
from tests.batch_jobs.shapes import write_lines
from tests.tiny import clip, language_models, stable_diffusion
from tests.triplet_jobs.factories import JOB, account, data_set, factory_here
from tests.triplet_jobs.test_prompt_to_prompt import NO_THRESHOLD
from triplet_jobs.config import TripletConfig
from triplet_jobs.job import TripletJob

CAPTIONS = ("a cat on a sofa", "a house by the sea", "湖边的一座木屋", "a street at noon")


@pytest.mark.slow
def test_captions_are_rewritten_and_pairs_painted_over_ray_as_in_one_process(
    cluster: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # where the folders are, and no worker is
    language_models.build_answering(Path("gpt2"))
    clip.build(Path("clip"))
    engine = EngineConfig(
        model=str(stable_diffusion.build(tmp_path / "painter")),
        device="cpu",
        determinism="strict",
        num_threads=1,
        options=EditOptions(num_inference_steps=3),
    )
    config = TripletConfig(
        job=JOB.model_copy(update={"engine": engine, "max_workers": 1}),
        pairer="prompt_to_prompt",
        rewriter="gpt2",
        rewriter_requests=2,
        n_samples=3,
        min_change=0.0,
        clip="clip",
        **NO_THRESHOLD,
    )
    rows = [{"id": f"{number}", "caption": text} for number, text in enumerate(CAPTIONS)]
    captions = write_lines(tmp_path / "captions.jsonl", rows)
    assert TripletJob.open(captions, str(tmp_path / "ray"), config).run() == Exit.OK
    assert factory_here(captions, tmp_path / "here", config).run() == Exit.OK
    assert len(ledger(tmp_path / "ray")) == account(tmp_path / "ray")["kept"] == 3 * len(CAPTIONS)
    assert data_set(tmp_path / "ray") == data_set(tmp_path / "here")
    assert account(tmp_path / "ray") == account(tmp_path / "here")
