"""A language model behind a server is asked once for each caption, and what it says is checked."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from batch_jobs.stopping import Exit
from engine.errors import NotReady, OptionInvalid
from engine.spec import ModelSpec
from tests.batch_jobs.editors import dry
from tests.batch_jobs.jobs import ledger
from tests.triplet_jobs.factories import JOB, changed, factory_here, with_job
from triplet_jobs.config import TripletConfig


class Model(ThreadingHTTPServer):
    """A server of a language model that answers by `answer`, or with a status."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked: list[dict[str, Any]] = []
        self.keys: list[str | None] = []
        self.statuses: list[int] = []  # of the next answers
        self.bad: dict[str, int] = {}  # caption -> how often its answer is no edit

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"

    def captions(self) -> list[str]:
        return [body["messages"][-1]["content"].partition("\n##")[0] for body in self.asked]

    def answer(self, caption: str) -> str:
        if self.bad.get(caption, 0) > 0:
            self.bad[caption] -= 1
            return f"nothing\n%%\n{caption}\nEND"
        return f"make it snow\n%%\n{caption} in the snow\nEND"


class Handler(BaseHTTPRequestHandler):
    server: Model

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        model = self.server
        status = model.statuses.pop(0) if model.statuses else 200
        if self.path != "/v1/chat/completions":
            status = 404
        model.keys.append(self.headers["authorization"])
        content = ""
        if status == 200:
            model.asked.append(body)
            content = model.answer(model.captions()[-1])
        message = {"choices": [{"message": {"role": "assistant", "content": content}}]}
        data = json.dumps(message if status == 200 else {"error": "injected"}).encode()
        self.send_response(status)
        if status == 302:
            self.send_header("location", model.url)
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> Iterator[Model]:
    monkeypatch.setattr("triplet_jobs.chat.PAUSES_S", (0.0, 0.0))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with Model() as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def config_of(model: Model) -> TripletConfig:
    return TripletConfig(
        job=JOB, rewriter=model.url, n_samples=2, min_edge_correlation=0, rewriter_requests=1
    )


def run(captions: Path, output: Path, config: TripletConfig, spec: ModelSpec) -> Exit:
    return factory_here(captions, output, config, dry(spec)).run()


def test_its_answers_become_instructions_and_captions_and_it_is_asked_once(
    captions: Path, tmp_path: Path, model: Model, pocket: ModelSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "secret")
    model.statuses = [503, 200, 429]
    config = changed(config_of(model), rewriter_model="some-model")
    assert run(captions, tmp_path / "out", config, pocket) == Exit.OK
    assert len(model.asked) == 4 and set(model.keys) == {"Bearer secret"}
    assert {body["model"] for body in model.asked} == {"some-model"}
    assert {body["temperature"] for body in model.asked} == {0.7}
    for row in ledger(tmp_path / "out").values():
        told = json.loads(row["carried"])
        assert row["instruction"] == "make it snow"
        assert told["edited_prompt"] == f"{told['original_prompt']} in the snow"
    (tmp_path / "out" / "_SUCCESS").unlink()
    assert run(captions, tmp_path / "out", config, pocket) == Exit.OK
    assert len(model.asked) == 4


def test_a_server_that_sends_the_request_elsewhere_is_refused(
    captions: Path, tmp_path: Path, model: Model, pocket: ModelSpec
) -> None:
    model.statuses = [302]
    with pytest.raises(OptionInvalid, match="refuses with 302"):  # the key is for the one named
        run(captions, tmp_path / "out", config_of(model), pocket)


def test_three_answers_that_are_no_edits_are_one_error_that_a_retry_asks_for_again(
    captions: Path, tmp_path: Path, model: Model, pocket: ModelSpec
) -> None:
    model.bad = {"a rocket on its launch pad": 3, "一只猫": 2}
    config = config_of(model)
    assert run(captions, tmp_path / "out", config, pocket) == Exit.FAILED_ROWS
    rows = ledger(tmp_path / "out")
    assert len(rows) == 3 * 2 + 1 and len(model.asked) == 2 + 3 + 3
    assert rows["rocket"]["error_code"] == "rewriting_failed"
    assert "3 answers were no edits" in rows["rocket"]["error_message"]
    assert run(captions, tmp_path / "out", config, pocket) == Exit.FAILED_ROWS
    assert len(model.asked) == 8
    again = with_job(config, retry="rewriting_failed")
    assert run(captions, tmp_path / "out", again, pocket) == Exit.OK
    assert len(model.asked) == 9 and len(ledger(tmp_path / "out")) == 8


def test_a_server_that_goes_away_stops_the_job_and_its_answers_are_kept(
    captions: Path, tmp_path: Path, model: Model, pocket: ModelSpec
) -> None:
    model.statuses = [200, 200, 500, 500, 500]
    config = config_of(model)
    with pytest.raises(NotReady, match="does not answer: HTTP 500"):
        run(captions, tmp_path / "out", config, pocket)
    done = len(model.asked)
    assert run(captions, tmp_path / "out", config, pocket) == Exit.OK
    assert len(model.asked) == 4 and sorted(set(model.captions())) == sorted(model.captions())
    assert done >= 2


def test_a_server_that_refuses_is_named_with_what_it_says(
    captions: Path, tmp_path: Path, model: Model, pocket: ModelSpec
) -> None:
    model.statuses = [401] * 4
    with pytest.raises(OptionInvalid, match=r"refuses with 401: .*injected"):
        run(captions, tmp_path / "out", config_of(model), pocket)
