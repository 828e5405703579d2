"""The contract at /openapi.json says what the code does."""

from __future__ import annotations

import json
from typing import Any

import openai
import pytest

from docs.api_page import api_page, openapi
from engine.errors import OptionInvalid
from engine.wire import EditBody
from serve_app.ingress.api import EDIT_ERRORS
from serve_app.ingress.parsing import parse_json
from serve_app.schemas import CompletedEvent, PartialImageEvent

SPEC = openapi()
EDIT = SPEC["paths"]["/v1/images/edits"]["post"]
JSON_FIELDS = EDIT["requestBody"]["content"]["application/json"]["schema"]["properties"]
FORM_FIELDS = EDIT["requestBody"]["content"]["multipart/form-data"]["schema"]["properties"]


def bounds_of(field: dict[str, Any]) -> dict[str, Any]:
    return next((part for part in field.get("anyOf", []) if part["type"] != "null"), field)


NUMBERS = {
    name: bounds_of(field) for name, field in JSON_FIELDS.items() if "maximum" in bounds_of(field)
}


def parse(**fields: object) -> None:
    images = [{"image_url": "data:image/png;base64,AAAA"}]
    parse_json(json.dumps({"prompt": "x", "images": images, **fields}).encode())


def test_both_content_types_document_every_field_with_what_it_means() -> None:
    assert set(JSON_FIELDS) == set(EditBody.model_fields)
    assert set(FORM_FIELDS) == set(EditBody.model_fields) - {"images"} | {"image"}
    shared = {name: field for name, field in FORM_FIELDS.items() if name != "image"}
    assert [name for name, field in shared.items() if not field["description"]] == []


@pytest.mark.parametrize("name", sorted(NUMBERS))
def test_the_documented_bounds_are_the_enforced_ones(name: str) -> None:
    needs: dict[str, dict[str, object]] = {
        "output_compression": {"output_format": "webp"},
        "partial_images": {"stream": True},
    }
    extra = needs.get(name, {})
    whole = NUMBERS[name]["type"] == "integer"
    bounds = {
        bound: int(at) if whole else at for bound, at in NUMBERS[name].items() if "imum" in bound
    }
    inside = [at for bound, at in bounds.items() if bound in ("minimum", "maximum")]
    outside = [bounds["maximum"] + 1, bounds.get("exclusiveMinimum", bounds.get("minimum", 0) - 1)]
    for value in inside:
        parse(**{name: value}, **extra)
    for value in outside:
        with pytest.raises(OptionInvalid, match=name):
            parse(**{name: value}, **extra)


@pytest.mark.parametrize("name", sorted(n for n, field in JSON_FIELDS.items() if "enum" in field))
def test_the_documented_choices_are_the_accepted_ones(name: str) -> None:
    for value in JSON_FIELDS[name]["enum"]:
        parse(**{name: value})
    with pytest.raises(OptionInvalid, match=name):
        parse(**{name: "something else"})


def test_every_error_is_documented_as_openais_error_body() -> None:
    for methods in SPEC["paths"].values():
        for operation in methods.values():
            for status, response in operation["responses"].items():
                if status != "200":
                    schema = response["content"]["application/json"]["schema"]
                    assert schema == {"$ref": "#/components/schemas/ErrorBody"}
    detail = SPEC["components"]["schemas"]["ErrorDetail"]
    assert set(detail["required"]) == {"message", "type", "param", "code"}
    assert set(EDIT["responses"]) == {"200", *map(str, EDIT_ERRORS)}


def test_the_events_carry_what_openais_types_require() -> None:
    for ours, theirs in (
        (PartialImageEvent, openai.types.ImageEditPartialImageEvent),
        (CompletedEvent, openai.types.ImageEditCompletedEvent),
    ):
        required = {name for name, field in theirs.model_fields.items() if field.is_required()}
        assert required <= set(ours.model_fields)


def test_the_reference_page_has_every_route_and_field() -> None:
    page = api_page()
    assert all(f"`{name}`" in page for name in CompletedEvent.model_fields)
    assert all(f" {path}\n" in page for path in SPEC["paths"])
    assert all(f"`{name}`" in page for name in EditBody.model_fields)
