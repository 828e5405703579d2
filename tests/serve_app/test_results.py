"""`response_format=url`: images at signed addresses of this server, for a while."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import fsspec
import httpx
import openai
import pytest
from moto.server import ThreadedMotoServer
from s3fs import S3FileSystem

from engine.errors import OptionInvalid
from engine.spec import ModelSpec
from serve_app.app import run_server
from serve_app.config import ServeConfig
from serve_app.errors import ResultNotFound, UrlInvalid
from serve_app.ingress.api import make_app
from serve_app.ingress.results import KEY_FILE, Results, SignedUrl
from storage.storage import Storage
from tests.serve_app.conftest import PROMPT, files_of, pixels_of, post_form, service_of
from tests.serve_app.local import Negative, over_http
from tests.serve_app.test_refusals import check_error

FILE = b"an image file"


class Clock:
    now_s = 1_764_385_200.5

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture(params=["folder", "s3"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A folder, and a prefix of a bucket on a real server that speaks S3."""
    if request.param == "folder":
        yield str(tmp_path / "results")
        return
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    moto = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    moto.start()
    with pytest.MonkeyPatch.context() as environment, ExitStack() as after:
        after.callback(moto.stop)
        host, port = moto.get_host_and_port()
        environment.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        environment.setenv("AWS_DEFAULT_REGION", "us-east-1")
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            environment.setenv(name, "test")
        S3FileSystem.clear_instance_cache()
        fsspec.filesystem("s3").makedirs("bucket", exist_ok=True)  # moto keeps it
        yield f"s3://bucket/{tmp_path.name}"
        S3FileSystem.clear_instance_cache()


def test_an_edit_by_url_is_the_image_of_one_without_on_any_storage(
    place: str, pocket: ModelSpec, photographs: dict[str, bytes]
) -> None:
    config = ServeConfig(decode_workers=1, results_uri=place)
    service = service_of(config, pocket, Negative())
    with over_http(make_app(service)) as url, httpx.Client(base_url=url, timeout=60) as http:
        (sent,) = files_of(post_form(http, photographs["coffee"], seed=1))
        with openai.OpenAI(base_url=f"{url}/v1", api_key="none") as sdk:
            image = ("a.jpg", photographs["coffee"])
            edited = sdk.images.edit(
                image=image, prompt=PROMPT, response_format="url", extra_body={"seed": 1}
            )
        assert edited.data is not None and edited.data[0].b64_json is None
        address = edited.data[0].url or ""
        assert address.startswith(f"{url}/results/")
        got = httpx.get(address)
        assert (got.content, got.headers["content-type"]) == (sent, "image/png")
        head = httpx.head(address)
        assert (head.status_code, head.content) == (200, b"")
        kept = {"response_format": "url", "output_format": "jpeg"}
        (jpeg,) = post_form(http, photographs["coffee"], **kept).json()["data"]
        assert httpx.get(jpeg["url"]).headers["content-type"] == "image/jpeg"
        assert pixels_of(httpx.get(jpeg["url"]).content).shape == pixels_of(sent).shape
        forged = re.sub(r"signature=\w{4}", "signature=0000", address)
        check_error(httpx.get(forged), 403, "url_invalid", None)
        check_error(httpx.get(address.partition("?")[0]), 403, "url_invalid", None)
    service.close()


def test_a_url_leads_to_its_image_until_it_expires(place: str) -> None:
    Storage(place).make()
    clock = Clock()
    results = Results(Storage(place), 100, clock)
    url = results.keep(FILE, "png")
    other = Results(Storage(place), 100, clock)  # of another ingress, or after a restart
    assert other.read(url) == FILE
    later = SignedUrl(url.name, str(int(url.expires) + 1), url.signature)
    elsewhere = SignedUrl(results.keep(b"of another", "png").name, url.expires, url.signature)
    for forged in (later, elsewhere, SignedUrl(url.name, url.expires, "é"), SignedUrl("", "", "")):
        with pytest.raises(UrlInvalid, match="not one that this server"):
            other.read(forged)
    clock.now_s += 100
    assert other.read(url) == FILE
    clock.now_s += 1
    with pytest.raises(UrlInvalid, match="expired"):
        other.read(url)


def test_expired_images_are_removed_and_no_others(place: str) -> None:
    Storage(place).make()
    clock = Clock()
    results = Results(Storage(place), 100, clock)
    old = results.keep(FILE, "png")
    clock.now_s += 99
    results.sweep()
    assert results.read(old) == FILE
    new = results.keep(FILE, "webp")
    clock.now_s += 62  # the minute in which the first expired is over
    results.sweep()
    assert Storage(place).files("images") == [f"images/{new.name}"]
    assert results.read(new) == FILE
    Storage(place).remove(f"images/{new.name}")
    with pytest.raises(ResultNotFound):
        results.read(new)
    clock.now_s += 1000
    results.sweep()
    assert Storage(place).list("images") == [] and Storage(place).exists(KEY_FILE)


def test_an_answer_by_url_is_repeated_as_long_as_its_url_lives(
    tmp_path: Path, pocket: ModelSpec, photographs: dict[str, bytes]
) -> None:
    config = ServeConfig(decode_workers=1, results_uri=str(tmp_path), results_lifetime_s=100)
    service = service_of(config, pocket, Negative())
    kept_for: list[float] = []
    keep = service.answers.keep

    async def noted(name: str, holder: str, answer: object, for_s: float) -> None:
        kept_for.append(for_s)
        await keep(name, holder, answer, for_s)  # type: ignore[arg-type]

    service.answers.keep = noted  # type: ignore[method-assign]
    with over_http(make_app(service)) as url, httpx.Client(base_url=url, timeout=60) as http:
        http.headers["idempotency-key"] = "order 1"
        first, again = (
            post_form(http, photographs["coffee"], response_format="url") for _ in range(2)
        )
        assert first.content == again.content and kept_for == [100]
    service.close()


def test_without_a_place_for_images_the_refusal_names_the_setting_and_no_address_is_there(
    pocket: ModelSpec, photographs: dict[str, bytes]
) -> None:
    service = service_of(ServeConfig(decode_workers=1), pocket, Negative())
    with over_http(make_app(service)) as url, httpx.Client(base_url=url, timeout=60) as http:
        refused = post_form(http, photographs["coffee"], response_format="url")
        message = check_error(refused, 400, "option_invalid", "response_format")
        assert "results_uri" in message and "b64_json" in message
        check_error(http.get("/results/1/a.png"), 404, "route_not_found", None)
    service.close()


def test_a_stream_has_no_urls_and_clients_may_know_the_server_by_another_address(
    tmp_path: Path, pocket: ModelSpec, photographs: dict[str, bytes]
) -> None:
    public = "https://edits.example/rayedit/"
    config = ServeConfig(decode_workers=1, results_uri=str(tmp_path), public_url=public)
    service = service_of(config, pocket, Negative())
    with over_http(make_app(service)) as url, httpx.Client(base_url=url, timeout=60) as http:
        fields = {"response_format": "url", "stream": "true"}
        refused = post_form(http, photographs["coffee"], **fields)
        check_error(refused, 400, "option_invalid", "response_format")
        (image,) = post_form(http, photographs["coffee"], response_format="url").json()["data"]
        path = image["url"].removeprefix(public)
        assert path.startswith("results/") and http.get(f"/{path}").status_code == 200
    service.close()


def test_a_place_that_cannot_be_used_is_refused_before_ray_starts(tmp_path: Path) -> None:
    for uri in ("memory://results", "nothing://results", "/proc/no/such/place"):
        with pytest.raises(OptionInvalid, match="results_uri") as refused:
            run_server(ServeConfig(results_uri=uri))
        assert refused.value.param == "results_uri"
    (tmp_path / KEY_FILE).write_text("short")
    with pytest.raises(OptionInvalid, match="32"):
        Results.of(ServeConfig(results_uri=str(tmp_path)))


def test_a_relative_place_means_the_same_in_every_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    config = ServeConfig.of({"results_uri": "results"})
    assert config.results_uri == os.path.join(tmp_path, "results")
    assert ServeConfig(results_uri="s3://bucket/results").results_uri == "s3://bucket/results"
