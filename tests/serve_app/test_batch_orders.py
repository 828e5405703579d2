"""What a batch may be: its lines, its order, whose it is, which model does it."""

from __future__ import annotations

import json
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from batch_jobs.hosted import lines as hosted_lines
from batch_jobs.hosted.run import run_batch
from batch_jobs.stages.in_process import edited_here
from batch_jobs.stopping import Exit
from engine.spec import ModelSpec
from serve_app.config import ServeConfig
from serve_app.ingress.api import make_app
from serve_app.ingress.files import owner_of
from serve_app.ingress.keys import Key
from serve_app.ingress.models import ServedModel
from serve_app.ingress.service import EditService
from storage.batch_store import BatchStore
from storage.storage import Storage
from tests.batch_jobs.editors import dry
from tests.batch_jobs.shapes import batch_line
from tests.serve_app.batch_lines import edit_lines, make_batch, outputs, upload
from tests.serve_app.conftest import PROMPT, Mirror, service_of
from tests.serve_app.hosted import SIDES, Served, ann, served
from tests.serve_app.local import over_http
from tests.serve_app.test_refusals import check_error

__all__ = ["ann", "served"]


def test_an_input_that_is_no_batch_fails_whole_and_says_what_is_wrong_where(
    served: Served, ann: openai.OpenAI, photographs: dict[str, bytes]
) -> None:
    good, other = edit_lines(photographs["coffee"], 2)
    made = make_batch(
        ann,
        [
            good,
            "{",
            {**other, "url": "/v1/responses"},
            good,
            {**other, "custom_id": ""},
            {**other, "body": {"model": "gpt-y"}},
            {"id": "x", "image": "/etc/hostname", "instruction": PROMPT},
        ],
    )
    assert served.run(made.id) is Exit.OK
    failed = ann.batches.retrieve(made.id)
    assert (failed.status, failed.output_file_id) == ("failed", None)
    assert failed.errors is not None and failed.failed_at
    told = [(error.line, error.code, error.param) for error in failed.errors.data or []]
    assert told == [
        (2, "invalid_json_line", None),
        (3, "invalid_request", "url"),
        (4, "duplicate_custom_id", "custom_id"),
        (5, "invalid_request", "custom_id"),
        (6, "model_not_found", "body.model"),
        (7, "invalid_request", "method"),
    ]


def test_of_several_models_a_batch_is_done_by_the_one_that_its_lines_name(
    pocket: ModelSpec, tmp_path: Path, photographs: dict[str, bytes]
) -> None:
    engines = {name: {"model": "pocket", "resolution": side} for name, side in SIDES.items()}
    models = {name: {"engine": engine} for name, engine in engines.items()}
    config = ServeConfig.of(
        {"models": models, "decode_workers": 1, "files_uri": str(tmp_path), "aliases": {"x": "b"}}
    )
    service = EditService(config, [ServedModel(name, pocket, Mirror()) for name in SIDES])
    with ExitStack() as end:
        url = end.enter_context(over_http(make_app(service)))
        base = f"{url}/v1"
        sdk = end.enter_context(openai.OpenAI(base_url=base, api_key="none", max_retries=0))
        for named, meant in ((None, "a"), ("x", "b")):
            made = make_batch(sdk, edit_lines(photographs["coffee"], 1, model=named))
            batches = BatchStore(Storage(str(tmp_path)), owner_of(Key("", "")))
            assert batches.order(made.id).jobs[meant]["engine"] == engines[meant]  # type: ignore[union-attr]
            run_batch(batches, made.id, spec=dry(pocket), run_blocks=edited_here)
            done = sdk.batches.retrieve(made.id)
            (line,) = outputs(sdk, done.output_file_id).values()
            assert (done.model, line["response"]["body"]["model"]) == (meant, meant)
    service.close()


def test_all_lines_of_a_batch_are_of_one_model() -> None:
    names = {"a": "a", "b": "b", "gpt-x": "b"}

    def checked(*models: str | None) -> hosted_lines.CheckedLines:
        lines = [batch_line(str(k), "", model=model) for k, model in enumerate(models)]
        return hosted_lines.check_lines("\n".join(map(json.dumps, lines)).encode(), names)

    assert checked("gpt-x", None, "b").model == "b" and checked("gpt-x", "b").faults == []
    assert checked(None, None).model is None
    assert [(one.line, one.code) for one in checked("b", "a").faults] == [(2, "mismatched_model")]


def test_a_batch_has_lines_and_not_too_many(
    served: Served,
    ann: openai.OpenAI,
    photographs: dict[str, bytes],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert hosted_lines.MAX_LINES == 50_000
    monkeypatch.setattr(hosted_lines, "MAX_LINES", 2)
    for lines, code in ((["", " "], "empty_file"), (edit_lines(b"x", 3), "too_many_tasks")):
        made = make_batch(ann, lines)
        served.run(made.id)
        errors = ann.batches.retrieve(made.id).errors
        assert errors is not None and [error.code for error in errors.data or []] == [code]


def test_no_line_reads_a_file_of_the_server(
    served: Served, ann: openai.OpenAI, tmp_path: Path, photographs: dict[str, bytes]
) -> None:
    secret = tmp_path / "secret.jpg"
    secret.write_bytes(photographs["coffee"])
    urls = [str(secret), f"file://{secret}", "s3://bucket/secret.jpg", "http://127.0.0.1/x.jpg"]
    lines = [batch_line(f"path-{number}", url) for number, url in enumerate(urls)]
    lines += [
        batch_line("id", "", images=[{"file_id": "../../../secret.jpg"}]),
        batch_line("mask", "data:;base64,", mask={"image_url": str(secret)}),
    ]
    made = make_batch(ann, lines)
    served.run(made.id)
    done = ann.batches.retrieve(made.id)
    assert (done.status, done.output_file_id) == ("completed", None)
    failures = outputs(ann, done.error_file_id)
    found = {line["response"]["body"]["error"]["code"] for line in failures.values()}
    assert len(failures) == len(lines) and found == {"image_source_refused", "image_not_found"}


def test_another_key_sees_none_of_a_batch_and_a_list_has_pages(
    served: Served, ann: openai.OpenAI
) -> None:
    made = []
    for _ in range(3):
        served.clock.now_s += 1
        made.append(make_batch(ann, [""]).id)
    assert [batch.id for batch in ann.batches.list(limit=2)] == made[::-1]
    assert [batch.id for batch in ann.batches.list(after=made[1]).data] == made[:1]
    with served.sdk("bob") as bob:
        assert bob.batches.list().data == []
        for call in (bob.batches.retrieve, bob.batches.cancel):
            with pytest.raises(openai.NotFoundError, match="no batch"):
                call(made[0])
        with pytest.raises(openai.NotFoundError, match="no file"):
            own = ann.batches.retrieve(made[0]).input_file_id
            bob.batches.create(
                input_file_id=own, endpoint="/v1/images/edits", completion_window="24h"
            )


@pytest.mark.parametrize(
    ("change", "status", "code", "param"),
    [
        ({"input_file_id": "file-none"}, 404, "file_not_found", "input_file_id"),
        ({"input_file_id": None}, 400, "option_invalid", "input_file_id"),
        ({"endpoint": "/v1/responses"}, 400, "option_invalid", "endpoint"),
        ({"completion_window": "1h"}, 400, "option_invalid", "completion_window"),
        ({"metadata": {"a": "x" * 513}}, 400, "option_invalid", "metadata.a"),
        ({"metadata": {str(k): "" for k in range(17)}}, 400, "option_invalid", "metadata"),
        ({"more": 1}, 400, "option_unknown", "more"),
        (
            {"output_expires_after": {"anchor": "created_at", "seconds": 1}},
            *(400, "option_invalid", "output_expires_after.seconds"),
        ),
    ],
)
def test_a_wrong_order_is_told_what_is_wrong(
    served: Served,
    ann: openai.OpenAI,
    change: dict[str, Any],
    status: int,
    code: str,
    param: str,
) -> None:
    body = {
        "input_file_id": upload(ann, [""]),
        "endpoint": "/v1/images/edits",
        "completion_window": "24h",
    }
    right = {"authorization": "Bearer ann"}
    refused = httpx.post(f"{served.url}/v1/batches", json={**body, **change}, headers=right)
    check_error(refused, status, code, param)


def test_the_input_of_a_batch_is_of_its_purpose(
    ann: openai.OpenAI, photographs: dict[str, bytes]
) -> None:
    photo = ann.files.create(file=("a.jpg", photographs["coffee"]), purpose="vision")
    with pytest.raises(openai.BadRequestError, match="purpose"):
        ann.batches.create(
            input_file_id=photo.id, endpoint="/v1/images/edits", completion_window="24h"
        )


def test_where_no_files_are_kept_the_refusal_names_the_setting(pocket: ModelSpec) -> None:
    service = service_of(ServeConfig(decode_workers=1), pocket, Mirror())
    with over_http(make_app(service)) as url, httpx.Client(base_url=url) as http:
        for asked in ("POST /v1/batches", "GET /v1/batches/b", "POST /v1/batches/b/cancel"):
            refused = http.request(*asked.split())
            assert "files_uri" in check_error(refused, 404, "route_not_found", None)
    service.close()
