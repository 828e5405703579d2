"""`/v1/batches` with OpenAI's client: what becomes of a batch, whatever happens to its job."""

from __future__ import annotations

import time
from pathlib import Path

import httpx
import openai
import pytest
from openai.types import ImagesResponse

from batch_jobs.ledger.lease import Lease
from batch_jobs.stopping import Exit
from engine.errors import OutputBusy
from engine.spec import ModelSpec
from storage.batch_store import open_batches
from storage.storage import Storage
from tests.batch_jobs.editors import TRACE
from tests.batch_jobs.shapes import batch_line
from tests.serve_app.batch_lines import edit_lines, make_batch, outputs
from tests.serve_app.hosted import (
    DAY_S,
    OWNER,
    Served,
    ann,
    served,
    serving,
    stopping_after,
    terminate,
)
from tests.serve_app.test_results import place

__all__ = ["ann", "place", "served"]


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
