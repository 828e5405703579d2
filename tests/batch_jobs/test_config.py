"""What a job can be told."""

from __future__ import annotations

import pytest

from batch_jobs.config import JobConfig
from engine.errors import OptionInvalid
from engine.fields import validate


def test_a_long_manifest_has_larger_commits() -> None:
    assert JobConfig().commit_rows(200) == 32
    assert JobConfig().commit_rows(1_000_000) == 1954
    assert JobConfig(rows_per_commit=5).commit_rows(1_000_000) == 5


def test_an_error_code_that_does_not_exist_is_not_retried() -> None:
    with pytest.raises(OptionInvalid, match='Did you mean "image_not_found"'):
        validate(JobConfig, {"retry": "image_not_fuond"})
