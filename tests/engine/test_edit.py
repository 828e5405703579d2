"""Options, bodies and instructions: accepted, or refused with the value, the bound and a hint."""

from __future__ import annotations

import json
import math
import pickle
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine import errors
from engine.catalogue import MODELS
from engine.edit import EditFailure
from engine.error_codes import error_classes
from engine.options import EditOptions
from engine.registry import find_model
from engine.text import clean_instruction, unknown_scripts
from engine.wire import EditBody, check_background


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("guidance_scale", math.nan),
        ("guidance_scale", math.inf),
        ("guidance_scale", 20.1),
        ("guidance_scale", "5"),
        ("image_guidance_scale", -0.1),
        ("num_inference_steps", 0),
        ("num_inference_steps", 101),
        ("num_inference_steps", True),
        ("num_inference_steps", 4.5),
        ("seed", -1),
        ("seed", 2**32),
        ("num_images", 11),
        ("size", "512"),
        ("size", "0x64"),
        ("resize", "tile"),
        ("scheduler", "magic"),
        ("negative_prompt", 5),
    ],
)
def test_a_bad_value_is_refused_by_its_name(name: str, value: object) -> None:
    with pytest.raises(errors.OptionInvalid) as caught:
        EditOptions.parse({name: value})
    assert caught.value.param == name
    assert name in caught.value.message


def test_an_unknown_option_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(errors.OptionUnknown, match='Did you mean "guidance_scale"') as caught:
        EditOptions.parse({"guidence_scale": 5})
    assert caught.value.param == "guidence_scale"


def test_forms_send_numbers_as_text() -> None:
    form = {"prompt": "x", "seed": "7", "guidance_scale": "5.5", "restore_size": "true", "n": "2"}
    options = EditBody.parse(form, strict=False).options(strict=False)
    assert (options.seed, options.guidance_scale, options.num_images) == (7, 5.5, 2)
    assert options.restore_size
    with pytest.raises(errors.OptionInvalid):
        EditBody.parse({"seed": "7"}).options()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("mask", "data:image/png;base64,"),
        ("response_format", "url"),
        ("stream", True),
    ],
)
def test_what_cannot_be_honoured_is_refused_never_ignored(name: str, value: object) -> None:
    with pytest.raises(errors.OptionInvalid, match=name):
        EditBody.parse({"prompt": "x", name: value})


def test_neutral_values_of_openai_are_accepted() -> None:
    EditBody.parse(
        {
            "prompt": "x",
            "quality": "auto",
            "background": "auto",
            "moderation": "auto",
            "response_format": "b64_json",
            "size": "auto",
            "user": "u",
        }
    ).options()


def test_openais_background_is_an_option_that_a_jpeg_cannot_have() -> None:
    given = EditBody.parse({"prompt": "x", "background": "transparent"}).options()
    assert given.background == "transparent"
    assert EditBody.parse({"prompt": "x", "background": "auto"}).options().background is None
    check_background(given, "png")
    check_background(EditOptions(), "jpeg")
    with pytest.raises(errors.OptionInvalid, match="background: a JPEG is opaque"):
        check_background(given, "jpeg")


@given(st.text())
def test_any_text_is_an_instruction_or_a_clear_refusal(text: str) -> None:
    try:
        cleaned = clean_instruction(text)
    except errors.InstructionError:
        return
    assert cleaned.strip() == cleaned
    assert cleaned.encode()
    assert not set(cleaned) & set("\x00\x1b\u202e\u2066")


@given(st.dictionaries(st.text(), st.one_of(st.none(), st.text(), st.integers(), st.floats())))
def test_any_body_is_options_or_a_clear_refusal(body: dict[str, Any]) -> None:
    try:
        EditBody.parse(body).options()
    except errors.RequestError as error:
        assert error.message


def test_empty_and_overlong_instructions_have_codes_of_their_own() -> None:
    for text in ("", "  \n", "\x00", None, 5):
        with pytest.raises(errors.InstructionEmpty):
            clean_instruction(text)
    started = time.perf_counter()
    with pytest.raises(errors.InstructionTooLong):
        clean_instruction("a" + "\u0300\u0327" * 200_000)  # normalizing it would take minutes
    assert time.perf_counter() - started < 5
    with pytest.raises(errors.InstructionTooLong, match="2001 characters; at most 2000"):
        clean_instruction("x" * 2001)


def test_scripts_a_text_encoder_does_not_know_are_named() -> None:
    assert unknown_scripts("make it night", ("LATIN",)) == []
    assert unknown_scripts("把天空变成粉色", ("LATIN",)) == ["CJK"]
    assert unknown_scripts("把天空变成粉色", ("LATIN", "CJK")) == []
    assert unknown_scripts("put the word 茶 on the cup", ("LATIN",)) == []
    assert unknown_scripts("123 !?", ("LATIN",)) == []


def test_every_error_has_a_code_of_its_own_and_survives_a_process_boundary() -> None:
    classes = error_classes()
    assert len({cls.code for cls in classes}) == len(classes)
    for cls in classes:
        error = pickle.loads(pickle.dumps(cls("what happened", param="seed")))
        assert (type(error), error.message, error.param) == (cls, "what happened", "seed")
        failure = EditFailure.of("a", error)
        assert failure.code == cls.code and 400 <= failure.status < 600
        assert cls.code in (errors.__doc__ or "") and str(cls.status) in (errors.__doc__ or "")
        assert failure.retryable == issubclass(cls, errors.TransientError)


def test_a_model_is_a_name_or_a_folder() -> None:
    assert find_model("pocket") is MODELS["pocket"]
    assert find_model(MODELS["pocket"].source) is MODELS["pocket"]
    with pytest.raises(errors.OptionInvalid, match="multiples of 16"):
        find_model("pocket", resolution=100)
    with pytest.raises(errors.ModelUnknown, match='Did you mean "pocket"'):
        find_model("pockett")


def test_bodies_are_json() -> None:
    body = EditBody.parse(json.loads('{"prompt": "make it night", "seed": 7}'))
    assert body.instruction() == "make it night"
    assert body.options().seed == 7
