"""A record comes out of a table as it went in."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

import numpy as np
import pyarrow as pa
import pytest

from batch_jobs.records import from_table, schema_of, to_table
from engine.options import EditOptions


@dataclass
class Inner:
    name: str
    size: tuple[int, int]


@dataclass
class Outer:
    id: str
    pixels: np.ndarray
    kind: Literal["a", "b"] = "a"
    inner: Inner | None = None
    options: EditOptions | None = None
    several: list[Inner] = field(default_factory=list)
    ratio: Annotated[float | None, "metadata"] = None
    at: datetime | None = None


FULL = Outer(
    "x",
    np.arange(24, dtype=np.uint8).reshape(2, 4, 3),
    "b",
    Inner("夜", (3, 4)),
    EditOptions(seed=2**32 - 1, negative_prompt="blue", restore_size=True),
    [Inner("one", (1, 1)), Inner("two", (2, 2))],
    0.1,
    datetime(2026, 9, 1, tzinfo=UTC),
)


def test_every_field_comes_back_as_it_was() -> None:
    (full, bare) = from_table(Outer, to_table(Outer, [FULL, Outer("y", np.zeros(0, np.float32))]))
    assert np.array_equal(full.pixels, FULL.pixels) and full.pixels.dtype == np.uint8
    assert bare.pixels.dtype == np.float32 and bare.pixels.shape == (0,)
    full.pixels = FULL.pixels
    assert full == FULL
    assert (bare.inner, bare.options, bare.several, bare.kind) == (None, None, [], "a")


def test_what_was_checked_is_not_checked_again() -> None:
    """An option that no caller could give, as a later version may write it, is not refused."""
    beyond = EditOptions.model_construct(num_inference_steps=10_000)
    row = Outer("x", np.zeros(1), options=beyond)
    (read,) = from_table(Outer, to_table(Outer, [row]))
    assert read.options is not None and read.options.num_inference_steps == 10_000


def test_a_column_that_is_missing_has_its_fields_default() -> None:
    table = to_table(Outer, [FULL]).select(["id", "pixels"])
    (read,) = from_table(Outer, table.append_column("another", pa.array([1])))
    assert (read.id, read.kind, read.several) == ("x", "a", [])


@pytest.mark.parametrize("kind", [int | str, dict[str, int], Any])
def test_a_field_that_no_column_can_hold_is_refused(kind: Any) -> None:
    bad = dataclass(type("Bad", (), {"__annotations__": {"field": kind}}))
    with pytest.raises(TypeError):
        schema_of(bad)
