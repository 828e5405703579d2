"""The body of an edit, as OpenAPI documents it."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from engine.formats import taken_names
from engine.options import MAX_INSTRUCTION_CHARACTERS, EditOptions
from engine.wire import NEUTRAL, OF_HTTP, EditBody

EXAMPLE = "make it night"
_GREY = (  # 64x64 px
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAEAAAABACAAAAACPAi4CAAAAK0lEQVR42u3M"
    "MREAAAgEoNfkRjeEmwcBqMlNRyAQCAQCgUAgEAgEAsHzYAFAdAEArKmlZAAAAABJRU5ErkJggg=="
)

_DESCRIPTIONS = {
    "prompt": 'the instruction, such as "make it night"; empty with a `style` that is one',
    "model": "the name of a served model, as /v1/models lists them; default: the first",
    "n": "how many images, each from a seed of its own; default 1",
    "output_format": "default: png, which is lossless",
    "output_compression": "quality of jpeg and webp, default 95; PNG takes 100 alone",
    "stream": "answer with server-sent events: `image_edit.partial_image` as they come, then "
    "`image_edit.completed`, or `error` with the body of an error",
    "partial_images": "previews of the first image while it is being made; needs `stream`",
    "response_format": "b64_json, or url: an address of this server that needs no API key and is "
    "good for `results_lifetime_s`, where its operator has set `results_uri`; not with `stream`",
    "moderation": "for OpenAI's clients: nothing is moderated here",
    "input_fidelity": "high: `detail=source`, unless `detail` is given; low: the model's default",
    "user": "accepted for OpenAI's clients; not used and not logged",
    "safety_identifier": "accepted for OpenAI's clients; not used and not logged",
}

_NEUTRAL = "for OpenAI's clients: these values mean what this server does; others are refused"
_MASK = (
    "a PNG with an alpha channel, as large as the image: where it is transparent the edit may "
    "change the image, where it is opaque every byte stays"
)
_FILE = "; `image[]` is the same field"
_URLS = '`[{"image_url": "data:image/jpeg;base64,..."}]`, or `[{"file_id": "file-..."}]`: '


def edit_request_body(max_sources: int, accept: Collection[str] = ()) -> dict[str, Any]:
    """Describe an edit in both content types, as OpenAPI's `requestBody`, from `EditBody`.

    `max_sources`: the most that a served model takes; `accept`: formats beside JPEG, PNG and WebP.
    Swagger's page fills a form with the examples, and makes up what has none: an empty one is sent
    as an absent field.
    """
    shared, taken = _properties(), taken_names(accept)
    binary = {"type": "string", "contentMediaType": "application/octet-stream", "format": "binary"}
    several = {"type": "array", "minItems": 1, "maxItems": max_sources}
    file = {"anyOf": [binary, {**several, "items": binary}]} if max_sources > 1 else dict(binary)
    order = "; of several the first is edited, and makes the canvas" if max_sources > 1 else ""
    texts = {name: {**field, "examples": [""]} for name, field in shared.items()}
    texts["prompt"]["examples"] = [EXAMPLE]
    form = _object({"image": file, **texts}, ["image", "prompt"])
    form["properties"]["image"]["description"] = f"{taken}{_FILE}{order}"
    form["properties"]["mask"] = {**binary, "description": _MASK}
    images = {**several, "items": _reference(), "description": f"{_URLS}{taken}{order}"}
    body = _object({"images": images, **shared}, ["images", "prompt"])
    body["properties"]["mask"] = {**_reference(), "description": _MASK}
    return {
        "required": True,
        "content": {
            "multipart/form-data": {"schema": form},
            "application/json": {
                "schema": body,
                "example": {"images": [{"image_url": _GREY}], "prompt": EXAMPLE},
            },
        },
    }


def _object(properties: dict[str, Any], required: list[str]) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": required,
        "additionalProperties": False,
    }


def _properties() -> dict[str, Any]:
    """The fields that both content types share: `EditBody`'s, with `EditOptions`' bounds."""
    body = EditBody.model_json_schema()["properties"]
    options = EditOptions.model_json_schema()["properties"]
    names = [name for name in body if name not in ("images", "mask")]
    properties = {name: dict(options.get(name, body[name])) for name in names}
    for name, values in NEUTRAL.items():
        if name in OF_HTTP:
            continue
        properties[name] = {
            "enum": list(values),
            "description": _DESCRIPTIONS.get(name, _NEUTRAL),
        }
    properties["prompt"] = {"type": "string", "maxLength": MAX_INSTRUCTION_CHARACTERS}
    for name, schema in properties.items():
        schema.pop("title", None)
        schema.setdefault("description", _DESCRIPTIONS.get(name, ""))
    return properties


def _reference() -> dict[str, Any]:
    url = {
        "type": "string",
        "pattern": "^data:[^,]*;base64,",
        "description": "a data URL; nothing is fetched",
    }
    id = {"type": "string", "description": "of a file uploaded to /v1/files, where there is that"}
    one = {"minProperties": 1, "maxProperties": 1}
    return {**_object({"image_url": url, "file_id": id}, []), **one}
