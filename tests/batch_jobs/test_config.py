"""What a job can be told."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from batch_jobs.config import JobConfig
from engine.config import load_config
from engine.errors import OptionInvalid
from engine.fields import validate


def test_a_long_manifest_has_larger_commits() -> None:
    assert JobConfig().commit_rows(200) == 32
    assert JobConfig().commit_rows(1_000_000) == 1954
    assert JobConfig(rows_per_commit=5).commit_rows(1_000_000) == 5


def test_an_error_code_that_does_not_exist_is_not_retried() -> None:
    with pytest.raises(OptionInvalid, match='Did you mean "image_not_found"'):
        validate(JobConfig, {"retry": "image_not_fuond"})


@pytest.mark.parametrize("given", ["make it night", ["make it night"]])
def test_one_instruction_needs_no_list(tmp_path: Path, given: object) -> None:
    (tmp_path / "job.yaml").write_text(yaml.safe_dump({"instruction": given}))
    config = load_config(tmp_path / "job.yaml", JobConfig)
    assert config.instruction == ("make it night",)
