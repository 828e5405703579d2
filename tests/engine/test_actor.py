"""EditActor where the loop's own tests do not reach: what a caller hands in and takes back."""

from __future__ import annotations

from dataclasses import replace

from engine import EditActor, EditFailure, EditResult
from tests.conftest import Prepare


def test_a_request_that_the_tokenizer_chokes_on_does_not_fail_its_mates(
    edit_of: Prepare, strict_actor: EditActor
) -> None:
    good = edit_of("coffee", "make it night", num_inference_steps=2).request
    bad = replace(good, id="bad", instruction="\ud800")  # no door lets it through
    outcomes = strict_actor.edit_batch([bad, good])
    assert isinstance(outcomes[0], EditFailure)
    assert outcomes[0].code == "internal_error"
    assert isinstance(outcomes[1], EditResult)


def test_a_future_is_ended_by_cancel_alone(edit_of: Prepare, strict_actor: EditActor) -> None:
    """A future that its waiter cancelled must not kill the thread that resolves it."""
    request = edit_of("coffee", "make it night", num_inference_steps=50).request
    (future,) = strict_actor.submit([request])
    assert not future.cancel()
    assert strict_actor.in_flight == 1
    strict_actor.cancel(request.id)
    outcome = future.result(timeout=30)
    assert isinstance(outcome, EditFailure)
    assert outcome.code == "cancelled"
    assert strict_actor.in_flight == 0
    assert strict_actor.alive
