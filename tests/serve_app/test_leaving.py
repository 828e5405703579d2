"""What a client can do to its own request: leave, and steer nothing."""

from __future__ import annotations

import httpx
import pytest

from tests.serve_app.conftest import becomes_idle, in_flight, post_form

LONG = {"num_inference_steps": 100, "n": 4}  # more than `becomes_idle` waits


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
