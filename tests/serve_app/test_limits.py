"""What bounds an edit: its time, and how many there may be."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from tests.serve_app.conftest import becomes_idle, post_form
from tests.serve_app.editors import PACED
from tests.serving import SMALL, running_server

pytestmark = pytest.mark.slow  # a server of its own

LONG = {"num_inference_steps": 100, "n": 4}  # more than `becomes_idle` waits, and the deadline


@pytest.fixture(scope="module")
def tight(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """A server with low limits, whose edits take their time whatever the machine."""
    config = {"engine": SMALL, "deadline_s": 3, "max_in_flight": 2, "decode_workers": 1}
    with (
        running_server(config, tmp_path_factory.mktemp("tight"), editor=PACED) as running,
        httpx.Client(base_url=running.url, timeout=60) as http,
    ):
        yield http


def test_an_edit_past_its_deadline_is_given_up_and_computed_no_further(
    tight: httpx.Client, photographs: dict[str, bytes]
) -> None:
    response = post_form(tight, photographs["coffee"], **LONG)
    assert response.status_code == 504
    error = response.json()["error"]
    assert (error["code"], error["type"]) == ("deadline_exceeded", "server_error")
    assert becomes_idle(tight)


def test_more_edits_than_the_server_holds_are_refused_with_when_to_try_again(
    tight: httpx.Client, photographs: dict[str, bytes]
) -> None:
    with ThreadPoolExecutor(6) as threads:
        sent = [threads.submit(post_form, tight, photographs["coffee"], **LONG) for _ in range(6)]
        responses = [future.result() for future in sent]
    refused = [response for response in responses if response.status_code == 503]
    assert len(refused) == 4
    for response in refused:
        assert response.json()["error"]["code"] == "overloaded"
        assert int(response.headers["retry-after"]) > 0
    assert becomes_idle(tight)
    assert post_form(tight, photographs["coffee"], num_inference_steps=4).status_code == 200
