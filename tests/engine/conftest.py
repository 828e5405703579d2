"""Every family, its tiny model loaded once for all tests of a session."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.engine.families import FAMILIES, Twins


@pytest.fixture(scope="session", params=FAMILIES, ids=str)
def twins(request: pytest.FixtureRequest, tiny: Callable[[str], Path]) -> Twins:
    """pytest runs the tests of one family after another, and holds one at a time."""
    return Twins(request.param, tiny(request.param.name))
