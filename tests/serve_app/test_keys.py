"""API keys: who may ask, how often, and where a server without keys may listen."""

from __future__ import annotations

import asyncio
import hashlib
from pathlib import Path

import httpx
import pytest

from engine.errors import OptionInvalid
from engine.spec import ModelSpec
from serve_app.app import run_server
from serve_app.config import ServeConfig
from serve_app.errors import KeyInvalid, RateLimited
from serve_app.exposure import check_exposure, is_loopback
from serve_app.ingress.api import make_app
from serve_app.ingress.keys import KEYS_VARIABLE, ApiKeys, Key
from tests.serve_app.conftest import service_of

KEY = "sk-correct-horse"
DIGEST = hashlib.sha256(KEY.encode()).hexdigest()


@pytest.fixture
def keys_file(tmp_path: Path) -> Path:
    file = tmp_path / "keys"
    file.write_text(f"# the keys\n\n{DIGEST}  team-a\n{'0' * 64}\n")
    return file


def test_a_key_is_known_by_its_digest_alone(keys_file: Path) -> None:
    keys = ApiKeys.load(ServeConfig(api_keys_file=str(keys_file)))
    assert keys.check(f"Bearer {KEY}").name == "team-a"
    for wrong in (None, "", KEY, f"Basic {KEY}", "Bearer ", f"Bearer {DIGEST}", f"Bearer {KEY}x"):
        with pytest.raises(KeyInvalid) as caught:
            keys.check(wrong)
        assert KEY not in caught.value.message


def test_keys_come_from_the_environment_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KEYS_VARIABLE, f"{'1' * 64} team-b, {DIGEST} team-a")
    assert ApiKeys.load(ServeConfig()).check(f"bearer {KEY}").name == "team-a"


@pytest.mark.parametrize("text", ["", "# nothing\n", KEY, DIGEST[:-1]])
def test_a_file_that_holds_no_digest_is_refused_without_repeating_it(
    tmp_path: Path, text: str
) -> None:
    file = tmp_path / "keys"
    file.write_text(text)
    with pytest.raises(OptionInvalid) as caught:
        ApiKeys.load(ServeConfig(api_keys_file=str(file)))
    assert caught.value.param == "api_keys_file"
    assert KEY not in str(caught.value)


def test_a_key_above_its_rate_is_told_when_to_come_back() -> None:
    now = 0.0
    one, other = Key(DIGEST, "team"), Key("0" * 64, "team")
    names = dict([one, other])
    keys = ApiKeys(names, per_minute=12, shares=2, clock=lambda: now)
    for _ in range(6):
        keys.spend(one)
    with pytest.raises(RateLimited, match="12 edits a minute; try again in 10 s") as caught:
        keys.spend(one)
    assert caught.value.retry_after_s == 10
    keys.spend(other)  # of the same name
    now = 9.9
    with pytest.raises(RateLimited):
        keys.spend(one)
    now = 10.0
    keys.spend(one)


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("::1", True),
        ("localhost", True),
        ("0.0.0.0", False),
        ("::", False),
        ("10.0.0.1", False),
        ("192.0.2.1", False),
        ("no-such-host.invalid", False),
    ],
)
def test_only_loopback_is_served_without_keys(host: str, loopback: bool, keys_file: Path) -> None:
    assert is_loopback(host) == loopback
    if loopback:
        check_exposure(host, ApiKeys({}), False)
    else:
        with pytest.raises(OptionInvalid, match="api_keys_file") as caught:
            check_exposure(host, ApiKeys({}), False)
        assert caught.value.param == "host"
    check_exposure(host, ApiKeys.load(ServeConfig(api_keys_file=str(keys_file))), False)
    check_exposure(host, ApiKeys({}), True)


def test_a_public_address_without_keys_is_refused_before_ray_starts() -> None:
    with pytest.raises(OptionInvalid, match="insecure"):
        run_server(ServeConfig(), host="0.0.0.0")


def test_every_route_of_the_api_wants_the_key_and_the_others_do_not(
    keys_file: Path, pocket: ModelSpec
) -> None:
    async def requests() -> None:
        config = ServeConfig(decode_workers=1, api_keys_file=str(keys_file), requests_per_minute=1)
        keys = ApiKeys.load(config)
        service = service_of(config, pocket, None, keys)  # type: ignore[arg-type]
        transport = httpx.ASGITransport(make_app(service))
        async with httpx.AsyncClient(transport=transport, base_url="http://app") as http:
            for method, path in (
                ("POST", "/v1/images/edits"),
                ("GET", "/v1/models"),
                ("GET", "/v1/models/pocket"),
                ("GET", "/metrics"),
            ):
                response = await http.request(method, path)
                assert response.status_code == 401, path
                assert set(response.json()["error"]) == {"message", "type", "param", "code"}
            right = {"authorization": f"Bearer {KEY}"}
            for path in ("/v1/models", "/metrics"):
                assert (await http.get(path, headers=right)).status_code == 200
            statuses = [
                await http.post("/v1/images/edits", headers=right, content=b"x") for _ in range(2)
            ]
            assert [response.status_code for response in statuses] == [415, 429]
            assert int(statuses[1].headers["retry-after"]) in (59, 60)
            assert statuses[1].json()["error"]["code"] == "rate_limit_exceeded"
            for path in ("/healthz", "/docs", "/openapi.json"):
                assert (await http.get(path)).status_code == 200
        service.close()

    asyncio.run(requests())
