"""The types of a manifest's columns: what Arrow can hold of each meaning."""

from __future__ import annotations

from collections.abc import Callable

import pyarrow as pa
from pyarrow import types

from engine.errors import ManifestInvalid
from engine.options import EditOptions


def check_types(schema: pa.Schema, names: dict[str, str], file: str) -> None:
    """Raises `ManifestInvalid` for a column whose type cannot hold what it is for.

    Extension types are refused wherever they come from outside Arrow: reading one may run code.
    """
    for field in schema:
        extension = _extension(field)
        if extension and (field.name in names or not extension.startswith("arrow.")):
            raise ManifestInvalid(
                f'{file}: column "{field.name}" has the extension type {extension}, which is not '
                "read: cast it to a plain type, or drop it",
                param=field.name,
            )
        name = names.get(field.name)
        if name is None:
            continue
        fits, wanted = _KINDS[_use(name)]
        if not fits(_plain(field.type)):
            raise ManifestInvalid(
                f'{file}: column "{field.name}" is {field.type}; it must be {wanted}',
                param=field.name,
            )


def _extension(field: pa.Field) -> str | None:
    """Find the name of an extension type in a field or, however deep, in its parts."""
    marked = (field.metadata or {}).get(b"ARROW:extension:name")
    if marked is not None:
        return str(marked.decode("utf-8", "replace"))
    if isinstance(field.type, pa.BaseExtensionType):
        return str(field.type.extension_name)
    inner = (field.type.field(i) for i in range(field.type.num_fields))
    return next((name for part in inner if (name := _extension(part))), None)


def _plain(kind: pa.DataType) -> pa.DataType:
    return kind.value_type if types.is_dictionary(kind) else kind


def is_text(kind: pa.DataType) -> bool:
    tests = (types.is_string, types.is_large_string, types.is_string_view, types.is_null)
    return any(test(kind) for test in tests)


def _is_binary(kind: pa.DataType) -> bool:
    tests = (types.is_binary, types.is_large_binary, types.is_binary_view)
    return any(test(kind) for test in tests) or types.is_fixed_size_binary(kind)


def _is_picture(kind: pa.DataType) -> bool:
    if not types.is_struct(kind):
        return is_text(kind) or _is_binary(kind)
    parts = {kind.field(i).name: kind.field(i).type for i in range(kind.num_fields)}
    path, data = parts.get("path", pa.null()), parts.get("bytes", pa.null())
    return bool(parts.keys() & {"bytes", "path"}) and (
        is_text(path) and (_is_binary(data) or types.is_null(data))
    )


def is_list(kind: pa.DataType) -> bool:
    tests = (types.is_list, types.is_large_list, types.is_fixed_size_list)
    return any(test(kind) for test in tests)


def _are_images(kind: pa.DataType) -> bool:
    return _is_picture(_plain(kind.value_type) if is_list(kind) else kind)


def _is_number(kind: pa.DataType) -> bool:
    """Text too: it is read as a number, row by row."""
    tests = (is_text, types.is_integer, types.is_floating, types.is_decimal)
    return any(test(kind) for test in tests)


def _is_key(kind: pa.DataType) -> bool:
    return is_text(kind) or types.is_integer(kind)


def holds_files(kind: pa.DataType) -> bool:
    """Tell whether a type has bytes in it, however deep: of a file that is not carried."""
    plain = _plain(kind)
    inner = (plain.field(i).type for i in range(plain.num_fields))
    return _is_binary(plain) or any(holds_files(part) for part in inner)


def _is_instruction(kind: pa.DataType) -> bool:
    return is_text(_plain(kind.value_type) if is_list(kind) else _plain(kind))


_PICTURE = "text (path or URI), bytes, or a struct of bytes and path"
# What a column is for -> the types that can hold it, and how they are called. An option's use is
# its type in JSON.
_KINDS: dict[str, tuple[Callable[[pa.DataType], bool], str]] = {
    "id": (_is_key, "text or whole numbers"),
    "chain_id": (_is_key, "text or whole numbers"),
    "turn": (lambda kind: _is_key(kind) or types.is_floating(kind), "whole numbers"),
    "image": (_are_images, f"{_PICTURE}; or a list of such"),
    "mask": (_is_picture, _PICTURE),
    "instruction": (_is_instruction, "text, or a list of such"),
    "string": (is_text, "text"),
    "integer": (_is_number, "a number"),
    "number": (_is_number, "a number"),
    "boolean": (lambda kind: _is_number(kind) or types.is_boolean(kind), "true or false"),
}


def _use(name: str) -> str:
    properties = EditOptions.model_json_schema()["properties"]
    if name not in properties:
        return name if name in _KINDS else "string"
    choices = properties[name].get("anyOf", [properties[name]])
    return str(choices[0]["type"])
