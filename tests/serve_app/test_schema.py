"""Whatever a client sends, the answer is in the API's own OpenAPI, and never our fault."""

from __future__ import annotations

from typing import Any

import hypothesis.strategies as st
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from docs.api_page import openapi
from tests.conftest import jpeg, photograph
from tests.serve_app.conftest import data_url
from tests.serving import Server

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
]
PHOTOGRAPH = jpeg(photograph("coffee")[::4, ::4])
OPERATIONS = {
    operation.label: operation
    for operation in (
        found.ok() for found in schemathesis.openapi.from_dict(openapi()).get_all_operations()
    )
}

# Every operation with what its schema allows; the one that has a body also with what it forbids.
CASES = [
    (name, mode)
    for name, operation in OPERATIONS.items()
    for mode in GenerationMode
    if mode is GenerationMode.POSITIVE or operation.body
]


def send_many(server: Server, name: str, mode: GenerationMode, examples: int) -> set[int]:
    """Checks the answers to `examples` requests, and returns their statuses."""
    statuses = set()

    @settings(
        max_examples=examples,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(case=OPERATIONS[name].as_strategy(generation_mode=mode), real=st.booleans())
    def check(case: Any, real: bool) -> None:
        if real and isinstance(case.body, dict):
            _send_a_photograph(case.body)
        response = case.call_and_validate(base_url=server.url, checks=CHECKS, timeout=60)
        statuses.add(response.status_code)

    check()
    return statuses


def _send_a_photograph(body: dict[str, Any]) -> None:
    """In place of made-up bytes, with which nothing would get past decoding."""
    if "image" in body:
        body["image"] = PHOTOGRAPH
    if "images" in body:
        body["images"] = [{"image_url": data_url(PHOTOGRAPH)}]


@pytest.mark.parametrize(("name", "mode"), CASES)
def test_no_request_gets_a_5xx_or_an_answer_outside_the_schema(
    server: Server, name: str, mode: GenerationMode
) -> None:
    send_many(server, name, mode, examples=25)


@pytest.mark.chaos
@pytest.mark.parametrize(("name", "mode"), CASES)
def test_no_request_of_very_many_gets_a_5xx_or_an_answer_outside_the_schema(
    server: Server, name: str, mode: GenerationMode
) -> None:
    statuses = send_many(server, name, mode, examples=500)
    if mode is GenerationMode.POSITIVE and "edits" in name:
        assert 200 in statuses  # some of them are edited: the schema is not only of refusals
