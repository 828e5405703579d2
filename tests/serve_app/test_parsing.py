"""What a body may cost to be read: no more than its bytes."""

from __future__ import annotations

import tracemalloc

import pytest

from engine.errors import OptionError, OptionInvalid
from engine.options import EditOptions
from serve_app.ingress.parsing import parse_json


@pytest.mark.parametrize("field", ["images", "seed"])
@pytest.mark.parametrize("parts", [9_000, 2**20])
def test_a_body_of_many_parts_takes_no_more_memory_than_a_photograph(
    field: str, parts: int
) -> None:
    """Parsed, each `{}` of three bytes would be a dictionary; shown in a message, a line."""
    body = b'{"%s": [%s]}' % (field.encode(), b",".join([b"{}"] * (parts // 2)))
    tracemalloc.start()
    try:
        with pytest.raises(OptionInvalid) as caught:
            parse_json(body)
        peak_bytes = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak_bytes < 2 * 2**20
    assert len(caught.value.message) < 200


def test_a_value_is_shown_without_being_written_out_first() -> None:
    value = [0] * 2**20
    tracemalloc.start()
    try:
        with pytest.raises(OptionInvalid, match=r"got \[0, 0, 0, 0, 0, 0, \.\.\.\]"):
            EditOptions.parse({"seed": value})
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    "body", [b'{"%s": 1}', b'{"%s": 1, "%s": 2}'], ids=["unknown", "given twice"]
)
def test_a_name_without_end_is_neither_compared_nor_repeated(body: bytes) -> None:
    """To compare all of it with the known names takes a list entry for each letter, and seconds."""
    body = body.replace(b"%s", b"seed" * 2**20)
    tracemalloc.start()
    try:
        with pytest.raises(OptionError) as caught:
            parse_json(body)
        assert tracemalloc.get_traced_memory()[1] < 4 * len(body)
    finally:
        tracemalloc.stop()
    assert len(caught.value.message) < 1000 and len(caught.value.param or "") <= 80
