"""`/v1/batches` with OpenAI's client: its states, its files, whose it is. The job runs in this
process with an editor that answers at once; no Ray, no model."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from openai.types import ImagesResponse

from batch_jobs.hosted import lines as hosted_lines
from batch_jobs.hosted.run import run_batch
from batch_jobs.ledger.lease import Lease
from batch_jobs.stages.in_process import edited_here
from batch_jobs.stages.run import BlockRun, EditedBlocks
from batch_jobs.stopping import Exit
from engine.errors import OutputBusy
from engine.spec import ModelSpec
from serve_app.config import ServeConfig
from serve_app.ingress.api import make_app
from serve_app.ingress.files import owner_of
from serve_app.ingress.keys import ApiKeys, Key
from serve_app.ingress.models import ServedModel
from serve_app.ingress.service import EditService
from storage.batch_store import BatchStore, open_batches
from storage.storage import Storage
from tests.batch_jobs.editors import TRACE, dry
from tests.batch_jobs.shapes import batch_line
from tests.serve_app.batch_lines import edit_lines, make_batch, outputs, upload
from tests.serve_app.conftest import PROMPT, Mirror, service_of
from tests.serve_app.local import over_http
from tests.serve_app.test_refusals import check_error
from tests.serve_app.test_results import place

__all__ = ["place"]

KEYS = {hashlib.sha256(name.encode()).hexdigest(): name for name in ("ann", "bob")}
OWNER = owner_of(Key(hashlib.sha256(b"ann").hexdigest(), "ann"))
DAY_S = 86_400
SIDES = {"a": 64, "b": 48}  # in px, of two models


class Clock:
    now_s = 1_764_385_200.0

    def __call__(self) -> float:
        return self.now_s


@dataclass
class Served:
    """The app in this process, and the jobs of its batches."""

    url: str
    place: str
    spec: ModelSpec
    clock: Clock

    def sdk(self, key: str = "ann") -> openai.OpenAI:
        return openai.OpenAI(base_url=f"{self.url}/v1", api_key=key, max_retries=0)

    @property
    def batches(self) -> BatchStore:
        """Ann's."""
        return BatchStore(Storage(self.place), OWNER, self.clock)

    def run(self, id: str, run_blocks: Any = edited_here) -> Exit:
        """The job of a batch, as its process runs it."""
        how = {"spec": dry(self.spec), "run_blocks": run_blocks, "watch_every_s": 0.02}
        return run_batch(self.batches, id, **how)


@pytest.fixture
def served(pocket: ModelSpec, tmp_path: Path) -> Iterator[Served]:
    with serving(pocket, str(tmp_path)) as served:
        yield served


@contextmanager
def serving(pocket: ModelSpec, place: str) -> Iterator[Served]:
    engine = {"resolution": 64, "determinism": "strict", "max_batch_size": 1}
    config = ServeConfig.of(
        {"engine": engine, "decode_workers": 1, "files_uri": place, "aliases": ["gpt-x"]}
    )
    service = service_of(config, pocket, Mirror(), ApiKeys(KEYS))
    clock = Clock()
    assert service.files is not None
    service.files.clock = clock
    with over_http(make_app(service)) as url:
        yield Served(url, place, pocket, clock)
    service.close()


@pytest.fixture
def ann(served: Served) -> Iterator[openai.OpenAI]:
    with served.sdk() as sdk:
        yield sdk


def stopping_after(blocks: int, stop: Callable[[], object]) -> Any:
    """Edit here, and do something when so many blocks are done."""

    @contextmanager
    def run_blocks(run: BlockRun) -> Iterator[EditedBlocks]:
        one_by_one = replace(run, config=run.config.model_copy(update={"rows_per_block": 1}))
        with edited_here(one_by_one) as edited:

            def entries() -> Iterator[Any]:
                for number, block in enumerate(edited.entries, start=1):
                    if number == blocks + 1:
                        stop()
                    yield block

            yield EditedBlocks(edited.config, entries())

    return run_blocks


def terminate() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


def test_a_batch_is_validated_edited_and_answered_in_openais_shape(
    served: Served, ann: openai.OpenAI, photographs: dict[str, bytes]
) -> None:
    photo = ann.files.create(file=("a.jpg", photographs["coffee"]), purpose="vision")
    by_id = batch_line("by-id", "", images=[{"file_id": photo.id}], model="gpt-x", n=2)
    wrong = [
        batch_line("no-file", "", images=[{"file_id": "file-none"}]),
        *edit_lines(photographs["coffee"], 1, prompt=" "),
    ]
    lines = [by_id, *wrong, *edit_lines(photographs["coffee"], 4)[1:]]
    made = make_batch(ann, lines, metadata={"shop": "7"})
    assert (made.object, made.status, made.metadata) == ("batch", "validating", {"shop": "7"})
    assert made.expires_at == made.created_at + DAY_S and made.request_counts is not None
    assert open_batches(Storage(served.place)) == [(OWNER, made.id)]
    assert served.run(made.id) is Exit.OK
    done = ann.batches.retrieve(made.id)
    assert done.status == "completed" and done.request_counts is not None
    assert done.request_counts.model_dump() == {"total": 6, "completed": 4, "failed": 2}
    assert done.in_progress_at and done.finalizing_at and done.completed_at
    answers = outputs(ann, done.output_file_id)
    assert set(answers) == {"by-id", "edit-1", "edit-2", "edit-3"}
    body = ImagesResponse.model_validate(answers["by-id"]["response"]["body"])
    assert body.data is not None and len(body.data) == 2 and body.data[0].b64_json
    failures = outputs(ann, done.error_file_id)
    codes = {
        id: (line["response"]["status_code"], line["response"]["body"]["error"]["code"])
        for id, line in failures.items()
    }
    assert codes == {"no-file": (400, "image_not_found"), "edit-0": (400, "instruction_empty")}
    assert served.place not in str(failures)
    file = ann.files.retrieve(done.output_file_id or "")
    assert (file.purpose, file.filename) == ("batch_output", f"{made.id}_output.jsonl")
    assert len(ann.files.content(file.id).read()) == file.bytes
    assert open_batches(Storage(served.place)) == []
    assert not served.batches.folder(made.id, "job").files("")
    assert served.run(made.id) is Exit.OK  # over is over
    assert ann.batches.retrieve(made.id) == done


def test_an_answer_has_all_that_the_same_edit_has_online(
    served: Served, ann: openai.OpenAI, photographs: dict[str, bytes]
) -> None:
    wishes = {"quality": "high", "return_mask": True, "preserve": "auto"}
    (line,) = edit_lines(photographs["coffee"], 1, **wishes)
    made = make_batch(ann, [line])
    served.run(made.id)
    answers = outputs(ann, ann.batches.retrieve(made.id).output_file_id)
    body = answers["edit-0"]["response"]["body"]
    right = {"authorization": "Bearer ann"}
    online = httpx.post(
        f"{served.url}/v1/images/edits", json=line["body"], headers=right, timeout=60
    ).json()
    assert body.keys() == online.keys() and body["data"][0].keys() == online["data"][0].keys()
    assert body["quality"] == "high" and body["usage"] == online["usage"]
    assert body["data"][0]["mask_b64_json"] and online["data"][0]["mask_b64_json"]


@pytest.mark.parametrize("place", ["s3"], indirect=True)
def test_files_and_batches_are_kept_in_a_bucket_as_in_a_folder(
    place: str, pocket: ModelSpec, photographs: dict[str, bytes]
) -> None:
    with serving(pocket, place) as served, served.sdk() as ann:
        photo = ann.files.create(file=("a.jpg", photographs["coffee"]), purpose="vision")
        by_id = batch_line("by-id", "", images=[{"file_id": photo.id}])
        made = make_batch(ann, [by_id, *edit_lines(photographs["coffee"], 3)])
        assert served.run(made.id, stopping_after(1, terminate)) is Exit.TERMINATED
        assert served.run(made.id) is Exit.OK
        done = ann.batches.retrieve(made.id)
        assert len(outputs(ann, done.output_file_id)) == 4 and done.error_file_id is None
        assert [batch.id for batch in ann.batches.list()] == [made.id]
        assert not served.batches.folder(made.id, "job").files("")
        assert open_batches(Storage(place)) == []


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


def test_all_lines_of_a_batch_are_of_one_model() -> None:
    names = {"a": "a", "b": "b", "gpt-x": "b"}

    def checked(*models: str | None) -> hosted_lines.CheckedLines:
        lines = [batch_line(str(k), "", model=model) for k, model in enumerate(models)]
        return hosted_lines.check_lines("\n".join(map(json.dumps, lines)).encode(), names)

    assert checked("gpt-x", None, "b").model == "b" and checked("gpt-x", "b").faults == []
    assert checked(None, None).model is None
    assert [(one.line, one.code) for one in checked("b", "a").faults] == [(2, "mismatched_model")]


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


def test_a_job_that_is_stopped_goes_on_and_edits_nothing_twice(
    served: Served,
    ann: openai.OpenAI,
    photographs: dict[str, bytes],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    trace = tmp_path / "trace"
    monkeypatch.setenv(TRACE, str(trace))
    made = make_batch(ann, edit_lines(photographs["coffee"], 6))
    assert served.run(made.id, stopping_after(2, terminate)) is Exit.TERMINATED
    stopped = ann.batches.retrieve(made.id)
    assert stopped.status == "in_progress" and stopped.output_file_id is None
    assert open_batches(Storage(served.place)) == [(OWNER, made.id)]
    assert served.run(made.id) is Exit.OK
    assert len(outputs(ann, ann.batches.retrieve(made.id).output_file_id)) == 6
    assert len(trace.read_text().splitlines()) == 6


def test_a_job_that_died_while_it_wrote_its_files_writes_the_same_again(
    served: Served,
    ann: openai.OpenAI,
    photographs: dict[str, bytes],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made = make_batch(ann, edit_lines(photographs["coffee"], 2))
    with monkeypatch.context() as patch:

        def fails(*_: object) -> None:
            raise OSError("the disk is full")

        patch.setattr("storage.file_store.FileStore.register", fails)
        with pytest.raises(OSError):
            served.run(made.id)
    assert ann.batches.retrieve(made.id).status == "finalizing"
    served.run(made.id)
    assert ann.batches.retrieve(made.id).status == "completed"
    made_files = [file for file in ann.files.list() if file.purpose == "batch_output"]
    assert len(made_files) == 1


def test_two_jobs_of_a_batch_are_one(
    served: Served, ann: openai.OpenAI, photographs: dict[str, bytes]
) -> None:
    made = make_batch(ann, edit_lines(photographs["coffee"], 1))
    with Lease(served.batches.folder(made.id)), pytest.raises(OutputBusy):
        served.run(made.id)
    assert served.run(made.id) is Exit.OK


def test_a_batch_that_is_cancelled_gives_what_is_done_and_says_what_is_not(
    served: Served, ann: openai.OpenAI, photographs: dict[str, bytes]
) -> None:
    made = make_batch(ann, edit_lines(photographs["coffee"], 8))

    def cancel() -> None:
        cancelling = ann.batches.cancel(made.id)
        assert cancelling.status == "cancelling" and cancelling.cancelling_at
        assert ann.batches.cancel(made.id) == cancelling
        time.sleep(0.2)  # the job looks meanwhile, and is told to stop

    assert served.run(made.id, stopping_after(3, cancel)) is Exit.OK
    done = ann.batches.retrieve(made.id)
    assert done.status == "cancelled" and done.cancelled_at and done.request_counts is not None
    answers, rest = outputs(ann, done.output_file_id), outputs(ann, done.error_file_id)
    assert len(answers) == done.request_counts.completed >= 3
    assert set(answers) | set(rest) == {f"edit-{number}" for number in range(8)}
    assert {line["error"]["code"] for line in rest.values()} == {"batch_cancelled"}
    assert ann.batches.cancel(made.id) == done
    again = make_batch(ann, edit_lines(photographs["coffee"], 8))
    served.run(again.id)
    assert len(outputs(ann, ann.batches.retrieve(again.id).output_file_id)) == 8
    with pytest.raises(openai.BadRequestError, match="completed"):
        ann.batches.cancel(again.id)


def test_a_batch_that_is_cancelled_before_its_turn_has_edited_nothing(
    served: Served, ann: openai.OpenAI, photographs: dict[str, bytes]
) -> None:
    made = make_batch(ann, edit_lines(photographs["coffee"], 1))
    ann.batches.cancel(made.id)
    assert served.run(made.id) is Exit.OK
    done = ann.batches.retrieve(made.id)
    assert (done.status, done.output_file_id, done.error_file_id) == ("cancelled", None, None)


def test_a_batch_expires_with_what_is_done(
    served: Served, ann: openai.OpenAI, photographs: dict[str, bytes]
) -> None:
    made = make_batch(ann, edit_lines(photographs["coffee"], 4))
    served.run(made.id, stopping_after(2, terminate))
    served.clock.now_s += DAY_S
    assert served.run(made.id) is Exit.OK
    done = ann.batches.retrieve(made.id)
    assert done.status == "expired" and done.expired_at == made.expires_at
    assert len(outputs(ann, done.output_file_id)) >= 2
    rest = outputs(ann, done.error_file_id)
    assert {line["error"]["code"] for line in rest.values()} == {"batch_expired"}


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


def test_the_files_that_a_batch_makes_expire_as_it_says(
    served: Served, ann: openai.OpenAI, photographs: dict[str, bytes]
) -> None:
    after = {"anchor": "created_at", "seconds": 7200}
    made = make_batch(ann, edit_lines(photographs["coffee"], 1), output_expires_after=after)
    served.run(made.id)
    file = ann.files.retrieve(ann.batches.retrieve(made.id).output_file_id or "")
    assert file.expires_at == file.created_at + 7200
    served.clock.now_s += 7200
    with pytest.raises(openai.NotFoundError):
        ann.files.content(file.id)


def test_where_no_files_are_kept_the_refusal_names_the_setting(pocket: ModelSpec) -> None:
    service = service_of(ServeConfig(decode_workers=1), pocket, Mirror())
    with over_http(make_app(service)) as url, httpx.Client(base_url=url) as http:
        for asked in ("POST /v1/batches", "GET /v1/batches/b", "POST /v1/batches/b/cancel"):
            refused = http.request(*asked.split())
            assert "files_uri" in check_error(refused, 404, "route_not_found", None)
    service.close()
