"""A ledger row has a column for all that is known of an edit, each option one of its own."""

from __future__ import annotations

from batch_jobs.ledger.entry import SCHEMA, Entry, Output, from_ledger, to_ledger
from batch_jobs.manifest.fault import Fault
from batch_jobs.manifest.place import Place
from engine.edit import EditFailure
from engine.errors import OptionInvalid
from engine.options import EditOptions, ResolvedOptions

EDITED = Entry(
    "a",
    instruction="make it night",
    options=ResolvedOptions(seed=7, num_inference_steps=3, strict_language=True),
    place=Place("m.jsonl", 0, 4096),
    mask="m.png",
    outputs=[Output("out/a.png", "0f", 64, 48, 7)],
    warnings=["alpha_flattened"],
)


def test_every_option_is_a_column() -> None:
    assert set(EditOptions.model_fields) <= set(SCHEMA.names)
    (row,) = to_ledger([EDITED]).to_pylist()
    for name, value in EDITED.options or ():
        assert row[name] == value
    assert row["strict_language"] is True


def test_an_entry_comes_out_of_the_ledger_as_it_went_in() -> None:
    assert from_ledger(to_ledger([EDITED, Entry("b")])) == [EDITED, Entry("b")]


def test_an_error_row_names_what_was_wrong() -> None:
    entry = Entry("a")
    assert entry.fault is None
    entry.fail(EditFailure.of("a", OptionInvalid("size: 100 px is not possible", param="size")))
    (row,) = to_ledger([entry]).to_pylist()
    assert (row["status"], row["error_code"], row["error_param"]) == (
        "error",
        "option_invalid",
        "size",
    )
    (read,) = from_ledger(to_ledger([entry]))
    assert read.fault == Fault("option_invalid", "size: 100 px is not possible", "size")
    error = read.fault.error()
    assert isinstance(error, OptionInvalid) and error.param == "size"
