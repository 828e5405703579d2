"""`/v1/files` with OpenAI's client, and edits of what was uploaded; no Ray, no model."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import httpx
import openai
import pytest

from engine.errors import OptionInvalid
from engine.spec import ModelSpec
from serve_app.app import run_server
from serve_app.config import ServeConfig
from serve_app.ingress.api import make_app
from serve_app.ingress.files import MAX_UPLOADS, Files
from serve_app.ingress.keys import ApiKeys
from serve_app.ingress.upload import MAX_FILE_BYTES
from tests.masks import draw_mask, openai_mask
from tests.serve_app.conftest import PROMPT, files_of, post_form, service_of
from tests.serve_app.local import Negative, over_http
from tests.serve_app.test_refusals import check_error

KEYS = {hashlib.sha256(name.encode()).hexdigest(): name for name in ("ann", "bob")}
LINE = b'{"custom_id": "a"}\n'


@pytest.fixture(scope="module")
def url(pocket: ModelSpec, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The app in this process, with two API keys."""
    place = str(tmp_path_factory.mktemp("files"))
    config = ServeConfig(decode_workers=1, files_uri=place)
    service = service_of(config, pocket, Negative(), ApiKeys(KEYS))
    with over_http(make_app(service)) as url:
        yield url
    service.close()


def client(url: str, key: str) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{url}/v1", api_key=key, max_retries=0)


@pytest.fixture
def ann(url: str) -> Iterator[openai.OpenAI]:
    with client(url, "ann") as sdk:
        yield sdk


@pytest.fixture
def http(url: str) -> Iterator[httpx.Client]:
    right = {"authorization": "Bearer ann"}
    with httpx.Client(base_url=url, headers=right, timeout=60) as http:
        yield http


def test_openais_client_keeps_lists_reads_and_removes_a_file(ann: openai.OpenAI) -> None:
    after = {"anchor": "created_at", "seconds": 3600}
    made = ann.files.create(file=("lines.jsonl", LINE), purpose="batch", expires_after=after)  # type: ignore[arg-type]
    assert (made.object, made.bytes, made.filename) == ("file", len(LINE), "lines.jsonl")
    assert (made.purpose, made.status) == ("batch", "processed")
    assert made.expires_at == made.created_at + 3600
    assert ann.files.retrieve(made.id) == made
    assert ann.files.content(made.id).read() == LINE
    other = ann.files.create(file=("again.jsonl", LINE), purpose="batch")
    assert other.expires_at == other.created_at + 30 * 86_400
    assert ann.files.wait_for_processing(other.id) == other
    pages = [file.id for file in ann.files.list(limit=1)]  # which asks for page after page
    assert pages[:2] == [other.id, made.id] and len(set(pages)) == len(pages)
    assert ann.files.list(after=other.id, limit=1).data[0].id == made.id
    assert ann.files.list(purpose="vision", after=other.id).data == []
    for file in (made, other):
        assert ann.files.delete(file.id).deleted
    with pytest.raises(openai.NotFoundError, match="no file"):
        ann.files.retrieve(made.id)


def test_another_key_sees_none_of_a_file(url: str, ann: openai.OpenAI) -> None:
    file = ann.files.create(file=("lines.jsonl", LINE), purpose="batch")
    with client(url, "bob") as bob:
        assert bob.files.list().data == []
        for call in (bob.files.retrieve, bob.files.content, bob.files.delete):
            with pytest.raises(openai.NotFoundError):
                call(file.id)
    assert ann.files.content(file.id).read() == LINE
    with client(url, "eve") as eve, pytest.raises(openai.AuthenticationError):
        eve.files.list()


def test_an_uploaded_image_and_its_mask_are_edited_as_if_they_were_sent(
    url: str, ann: openai.OpenAI, http: httpx.Client, photographs: dict[str, bytes]
) -> None:
    mask = openai_mask(draw_mask("box", (600, 400)))
    photo = ann.files.create(file=("photo.jpg", photographs["coffee"]), purpose="vision")
    assert photo.expires_at is None
    masked = ann.files.create(file=("mask.png", mask), purpose="user_data")
    body = {"prompt": PROMPT, "seed": 1, "images": [{"file_id": photo.id}]}
    form = {"prompt": PROMPT, "seed": "1"}
    sent: dict[str, tuple[str, bytes]] = {"image": ("a.jpg", photographs["coffee"])}
    for more, files in (({}, {}), ({"mask": {"file_id": masked.id}}, {"mask": ("m.png", mask)})):
        by_id = http.post("/v1/images/edits", json={**body, **more})
        as_form = http.post("/v1/images/edits", data=form, files={**sent, **files})
        assert files_of(by_id) == files_of(as_form)
    with httpx.Client(base_url=url, headers={"authorization": "Bearer bob"}) as bob:
        refused = bob.post("/v1/images/edits", json=body)
        message = check_error(refused, 400, "image_not_found", "images[0].file_id")
        assert photo.id in message
    lines = ann.files.create(file=("lines.jsonl", LINE), purpose="batch").id
    for wrong in ("file-none", "../etc/passwd", "", lines):
        refused = http.post("/v1/images/edits", json={**body, "images": [{"file_id": wrong}]})
        check_error(refused, 400, "image_not_found", "images[0].file_id")
    both = [{"file_id": photo.id, "image_url": "data:,"}]
    refused = http.post("/v1/images/edits", json={**body, "images": both})
    check_error(refused, 400, "image_source_refused", "images[0].file_id")


@pytest.mark.parametrize(
    ("form", "file", "status", "code", "param"),
    [
        ({"purpose": "batch"}, None, 400, "option_invalid", "file"),
        ({}, LINE, 400, "option_invalid", "purpose"),
        ({"purpose": "fine-tune"}, LINE, 400, "option_invalid", "purpose"),
        ({"purpose": "vision"}, LINE, 400, "image_unsupported", "file"),
        ({"purpose": "vision"}, b"x" * (25 * 2**20 + 1), 413, "body_too_large", "file"),
        ({"purpose": "batch", "expire": "1"}, LINE, 400, "option_unknown", "expire"),
        (
            {"purpose": "batch", "expires_after[anchor]": "created_at"},
            *(LINE, 400, "option_invalid", "expires_after.seconds"),
        ),
        (
            {
                "purpose": "batch",
                "expires_after[anchor]": "created_at",
                "expires_after[seconds]": "60",
            },
            *(LINE, 400, "option_invalid", "expires_after.seconds"),
        ),
    ],
)
def test_a_wrong_upload_is_told_what_is_wrong(
    http: httpx.Client, form: dict[str, str], file: bytes | None, status: int, code: str, param: str
) -> None:
    files = {"file": ("f", file)} if file is not None else {"note": ("", b"")}
    check_error(http.post("/v1/files", data=form, files=files), status, code, param)


def test_a_file_over_the_limit_is_refused_by_its_announced_length(http: httpx.Client) -> None:
    refused = http.post("/v1/files", json={"purpose": "batch"})
    check_error(refused, 415, "unsupported_media_type", None)
    assert MAX_FILE_BYTES >= 200 * 10**6  # what OpenAI takes


def test_more_uploads_at_a_time_than_there_is_memory_for_are_told_to_come_back(
    url: str, http: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("serve_app.ingress.files.MAX_UPLOADS", 0)
    refused = http.post("/v1/files", data={"purpose": "batch"}, files={"file": ("f", LINE)})
    check_error(refused, 503, "overloaded", None)
    assert MAX_UPLOADS > 0 and refused.headers["retry-after"]


def test_where_no_files_are_kept_the_refusal_names_the_setting(
    pocket: ModelSpec, photographs: dict[str, bytes]
) -> None:
    service = service_of(ServeConfig(decode_workers=1), pocket, Negative())
    with over_http(make_app(service)) as url, httpx.Client(base_url=url, timeout=60) as http:
        for method, path in (
            ("GET", "/v1/files"),
            ("POST", "/v1/files"),
            ("GET", "/v1/files/f/content"),
        ):
            message = check_error(http.request(method, path), 404, "route_not_found", None)
            assert "files_uri" in message
        body = {"prompt": PROMPT, "images": [{"file_id": "file-1"}]}
        refused = http.post("/v1/images/edits", json=body)
        message = check_error(refused, 400, "image_source_refused", "images[0].file_id")
        assert "files_uri" in message
        assert "/v1/files" not in http.get("/openapi.json").json()["paths"]
        assert files_of(post_form(http, photographs["coffee"]))
    service.close()


def test_a_place_that_cannot_be_used_is_refused_before_ray_starts() -> None:
    for uri in ("memory://files", "nothing://files", "/proc/no/such/place"):
        with pytest.raises(OptionInvalid, match="files_uri") as refused:
            run_server(ServeConfig(files_uri=uri))
        assert refused.value.param == "files_uri"
    with pytest.raises(OptionInvalid, match=r"files_uri: .*/proc/self"):
        Files.of(ServeConfig(files_uri="/proc/self"))  # it can be read, and not written
    assert Files.of(ServeConfig()) is None
