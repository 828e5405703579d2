"""Where a source image comes from: data URLs, paths and URIs, as people write them."""

from __future__ import annotations

import base64
import textwrap

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine import errors
from engine.sources import read_data_url

HEAD = "data:image/png;base64,"


@given(st.binary(max_size=300), st.sampled_from(["\n", "\r\n", " ", "\t"]), st.booleans())
def test_a_data_url_may_have_line_breaks_and_no_padding(
    data: bytes, separator: str, is_padded: bool
) -> None:
    packed = base64.b64encode(data).decode()
    packed = packed if is_padded else packed.rstrip("=")
    lines = separator.join(textwrap.wrap(packed, 76))
    assert read_data_url(HEAD + lines) == data
    assert read_data_url(HEAD + lines.replace("+", "%2B").replace("\n", "%0A")) == data


@pytest.mark.parametrize("payload", ["?", "AAAAA", "AA=A", "é"])
def test_what_is_not_base64_is_refused_as_such(payload: str) -> None:
    with pytest.raises(errors.ImageUnreadable, match="not valid base64"):
        read_data_url(HEAD + payload)
