"""What bounds a request: its body, its time, how many there may be, and a client that leaves."""

from __future__ import annotations

import asyncio
import json
import tracemalloc
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from engine.errors import OptionError, OptionInvalid
from engine.options import EditOptions
from engine.registry import ModelSpec
from serve_app.config import ServeConfig
from serve_app.ingress.api import make_app
from serve_app.ingress.parsing import parse_json
from serve_app.ingress.service import EditService
from tests.serve_app.conftest import becomes_idle, in_flight, post_form
from tests.serve_app.editors import PACED
from tests.serving import SMALL, Server, running_server

BODY_LIMIT = 200_000
DEADLINE_S = 1.5
LONG = {"num_inference_steps": 100, "n": 4}  # more than `becomes_idle` waits, and the deadline


@pytest.fixture(scope="module")
def tight(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with low limits, whose edits take their time whatever the machine."""
    config = {
        "engine": SMALL,
        "deadline_s": DEADLINE_S,
        "max_body_bytes": BODY_LIMIT,
        "max_in_flight": 2,
        "decode_workers": 1,
    }
    with running_server(config, tmp_path_factory.mktemp("tight"), editor=PACED) as running:
        yield running


@pytest.fixture(scope="module")
def tight_http(tight: Server) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=tight.url, timeout=60) as client:
        yield client


def body_of(size_bytes: int) -> bytes:
    """A JSON body of this length, whose image is none."""
    image = {"image_url": "data:image/png;base64,AAAA"}
    return json.dumps({"prompt": "x", "images": [image]}).encode().ljust(size_bytes)


def chunks_of(data: bytes, size: int = 10_000) -> Iterator[bytes]:
    return (data[at : at + size] for at in range(0, len(data), size))


@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_over_the_limit_is_refused_with_413(tight_http: httpx.Client, chunked: bool) -> None:
    statuses = []
    for size in (BODY_LIMIT, BODY_LIMIT + 1):
        body = body_of(size)
        response = tight_http.post(
            "/v1/images/edits",
            content=chunks_of(body) if chunked else body,
            headers={"content-type": "application/json"},
        )
        statuses.append((response.status_code, response.json()["error"]["code"]))
        assert response.headers["x-request-id"]
    assert statuses == [(400, "image_unsupported"), (413, "body_too_large")]


@pytest.mark.parametrize("chunked", [False, True])
def test_the_app_bounds_the_body_without_the_guard_in_the_proxy(
    pocket: ModelSpec, chunked: bool
) -> None:
    """As under `serve run`, where nothing of ours runs in Serve's proxy."""

    async def post() -> httpx.Response:
        config = ServeConfig(max_body_bytes=BODY_LIMIT, decode_workers=1)
        service = EditService(config, pocket, None)  # type: ignore[arg-type]
        transport = httpx.ASGITransport(make_app(service))
        body = body_of(BODY_LIMIT + 1)

        async def chunks() -> Iterator[bytes]:  # type: ignore[misc]
            for chunk in chunks_of(body):
                yield chunk

        async with httpx.AsyncClient(transport=transport, base_url="http://app") as client:
            response = await client.post(
                "/v1/images/edits",
                content=chunks() if chunked else body,  # type: ignore[arg-type]
                headers={"content-type": "application/json"},
            )
        service.close()
        return response

    response = asyncio.run(post())
    assert (response.status_code, response.json()["error"]["code"]) == (413, "body_too_large")


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


def test_an_endless_body_is_cut_off_early(tight_http: httpx.Client) -> None:
    sent = 0

    def endless() -> Iterator[bytes]:
        nonlocal sent
        while sent < 300 * 2**20:
            sent += 2**16
            yield b" " * 2**16

    try:
        response = tight_http.post(
            "/v1/images/edits", content=endless(), headers={"content-type": "application/json"}
        )
        assert response.status_code == 413
    except httpx.WriteError:
        pass  # the server closed the connection while the client was still sending
    assert sent < 50 * 2**20


def test_an_edit_past_its_deadline_is_given_up_and_computed_no_further(
    tight_http: httpx.Client, photographs: dict[str, bytes]
) -> None:
    response = post_form(tight_http, photographs["coffee"], **LONG)
    assert response.status_code == 504
    error = response.json()["error"]
    assert (error["code"], error["type"]) == ("deadline_exceeded", "server_error")
    assert becomes_idle(tight_http)


def test_more_edits_than_the_server_holds_are_refused_with_when_to_try_again(
    tight_http: httpx.Client, photographs: dict[str, bytes]
) -> None:
    with ThreadPoolExecutor(6) as threads:
        sent = [
            threads.submit(post_form, tight_http, photographs["coffee"], **LONG) for _ in range(6)
        ]
        responses = [future.result() for future in sent]
    refused = [response for response in responses if response.status_code == 503]
    assert len(refused) == 4
    for response in refused:
        assert response.json()["error"]["code"] == "overloaded"
        assert int(response.headers["retry-after"]) > 0
    assert becomes_idle(tight_http)
    assert post_form(tight_http, photographs["coffee"], num_inference_steps=4).status_code == 200


def test_an_edit_whose_client_has_gone_is_computed_no_further(
    http: httpx.Client, photographs: dict[str, bytes]
) -> None:
    with httpx.Client(base_url=http.base_url, timeout=0.7) as impatient:
        with pytest.raises(httpx.ReadTimeout):
            post_form(impatient, photographs["coffee"], **LONG)
        assert in_flight(http) <= 1
    assert becomes_idle(http)


@pytest.mark.parametrize("value", [b"0.01", b"0", b"nan", b"\xff"])
def test_a_client_cannot_set_the_servers_timeout(
    http: httpx.Client, photographs: dict[str, bytes], value: bytes
) -> None:
    response = http.post(
        "/v1/images/edits",
        data={"prompt": "make it night", "num_inference_steps": "4"},
        files={"image": ("a.jpg", photographs["coffee"])},
        headers={b"x-request-timeout-seconds": value, b"x-request-disconnect-disabled": b"?1"},
    )
    assert response.status_code == 200


def test_a_client_cannot_ask_to_be_computed_for_after_it_left(
    http: httpx.Client, photographs: dict[str, bytes]
) -> None:
    with (
        httpx.Client(base_url=http.base_url, timeout=0.7) as impatient,
        pytest.raises(httpx.ReadTimeout),
    ):
        impatient.post(
            "/v1/images/edits",
            data={"prompt": "make it night", "num_inference_steps": "100", "n": "4"},
            files={"image": ("a.jpg", photographs["coffee"])},
            headers={"x-request-disconnect-disabled": "?1"},
        )
    assert becomes_idle(http)


def test_a_request_id_is_echoed_when_it_is_safe_and_replaced_when_not(http: httpx.Client) -> None:
    def echoed(request_id: bytes) -> str:
        response = http.get("/healthz", headers={b"x-request-id": request_id})
        assert response.status_code == 200
        return response.headers["x-request-id"]

    assert echoed(b"order-1.photo_2") == "order-1.photo_2"
    for unsafe in (b"a b", b"a" * 65, b"{}", b"\xff", b""):
        assert echoed(unsafe).encode("latin-1") != unsafe
        assert len(echoed(unsafe)) == 32
