"""docs/api.md as text, from the app's own OpenAPI."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

from docs.markdown import page, table
from engine.registry import find_model
from serve_app.config import ServeConfig
from serve_app.ingress.api import make_app
from serve_app.ingress.files import Files
from serve_app.ingress.models import ServedModel
from serve_app.ingress.service import EditService
from serve_app.schemas import CompletedEvent, PartialImageEvent
from storage.storage import Storage

_INTRO = """\
`POST /v1/images/edits` is OpenAI's: its SDK works with `base_url="http://HOST:PORT/v1"`, and sends
the fields that OpenAI does not know as `extra_body={"seed": 7}`. The source is a file (multipart,
`image`), a data URL or an uploaded file (JSON, `images`); nothing is ever fetched. `/v1/files` and
`/v1/batches` are served where `files_uri` names a place for files ([serving.md](serving.md)).
The same as OpenAPI: `/openapi.json` and `/docs` of a running server."""


def _event(model: type[BaseModel]) -> str:
    schema = model.model_json_schema()
    return f"{model.__doc__}\n\n{_fields(schema)}"


def openapi() -> dict[str, Any]:
    """The contract; starts nothing."""
    backend: Any = None  # only a request would need one
    pocket = ServedModel("pocket", find_model("pocket"), backend)
    service = EditService(ServeConfig(), [pocket])
    service.files = Files(Storage("files"))  # likewise: nothing is looked for there
    return make_app(service).openapi()


def api_page() -> str:
    """The page in Markdown."""
    spec = openapi()
    parts: list[str] = []
    for path, methods in spec["paths"].items():
        for method, operation in methods.items():
            parts.append(f"## {method.upper()} {path}\n\n{operation['description']}")
            parts.append(_headers(operation.get("parameters", [])))
            parts.append(_query(operation.get("parameters", [])))
            parts.append(_body(operation.get("requestBody", {}).get("content", {})))
            parts += [_answer(spec, operation["responses"]), _errors(operation["responses"])]
    return page("HTTP API", _INTRO, "\n\n".join(part for part in parts if part) + "\n")


def _headers(parameters: list[dict[str, Any]]) -> str:
    lines = [f"- `{p['name']}`: {p['description']}" for p in parameters if p["in"] == "header"]
    return "### Headers\n\n" + "\n".join(lines) if lines else ""


def _query(parameters: list[dict[str, Any]]) -> str:
    lines = [f"- `{p['name']}`: {_type(p['schema'])}" for p in parameters if p["in"] == "query"]
    return "### Query\n\n" + "\n".join(lines) if lines else ""


def _body(contents: dict[str, Any]) -> str:
    """A table of fields; the second content type's holds those that differ."""
    parts = []
    shown: dict[str, Any] = {}
    for kind, content in contents.items():
        schema = content["schema"]
        fresh = {name: f for name, f in schema["properties"].items() if shown.get(name) != f}
        rest = "\n\nand the fields above but `image`." if shown else ""
        parts.append(f"### {kind}\n\n{_fields({**schema, 'properties': fresh})}{rest}")
        shown |= fresh
    return "\n\n".join(parts)


def _answer(spec: dict[str, Any], responses: dict[str, Any]) -> str:
    content = responses["200"]["content"]
    if "application/json" not in content:
        return f"### 200: {', '.join(content)}\n\n{responses['200']['description']}"
    answered = content["application/json"]["schema"]
    names = [_reference(one) for one in answered.get("anyOf", [answered])]
    schemas = spec["components"]["schemas"]
    answer = "\n\n".join(f"### 200: {name}\n\n{_fields(schemas[name])}" for name in names)
    if "text/event-stream" not in responses["200"]["content"]:
        return answer
    return "\n\n".join([answer, _EVENTS, _event(PartialImageEvent), _event(CompletedEvent)])


def _errors(responses: dict[str, Any]) -> str:
    lines = [
        f"- {status}: {r['description']}" for status, r in responses.items() if status != "200"
    ]
    return "### Errors\n\n" + "\n".join(lines) if lines else ""


def _fields(schema: dict[str, Any]) -> str:
    required = schema.get("required", ())
    rows = [
        (f"`{name}`{'*' if name in required else ''}", _type(field), field.get("description", ""))
        for name, field in schema["properties"].items()
    ]
    return table(("field (* required)", "type", "meaning"), rows).rstrip("\n")


_EVENTS = """\
### 200: text/event-stream

With `stream`: `event: NAME`, `data: JSON`, an empty line. Comments (`:`) keep the connection open.
An `error` event has the body of an error and ends the stream."""


def _type(field: dict[str, Any]) -> str:
    """Such as "integer 0..100" or "png, jpeg, webp"."""
    field = next((part for part in field.get("anyOf", []) if part.get("type") != "null"), field)
    if "enum" in field or "const" in field:
        values = field.get("enum", [field.get("const")])
        return ", ".join(str(value).lower() for value in values if value is not None) or "null"
    name = "file" if field.get("format") == "binary" else field.get("type", _reference(field))
    if name == "array":
        return f"list of {_type(field['items'])}"
    if "exclusiveMinimum" in field:
        return f"{name} above {field['exclusiveMinimum']:g}, to {field['maximum']:g}"
    if "maximum" in field:
        return f"{name} {int(field['minimum'])}..{int(field['maximum'])}"
    return f"{name}, at most {field['maxLength']} characters" if "maxLength" in field else name


def _reference(schema: dict[str, Any]) -> str:
    return schema.get("$ref", "").rpartition("/")[2]
