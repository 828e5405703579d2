"""The columns of a manifest: their names, other names that are understood, and their types."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from typing import Literal, get_args

import pyarrow as pa
from pyarrow import types

from engine.errors import ManifestInvalid
from engine.options import EditOptions

ALIASES = {
    "edit_prompt": "instruction",
    "prompt": "instruction",
    "input_image": "image",
    "source_image": "image",
    "source_img": "image",
    "text_guidance": "guidance_scale",
}
OPTIONS = tuple(EditOptions.model_fields)
PictureColumn = Literal["image", "mask"]
PICTURES: tuple[PictureColumn, ...] = get_args(PictureColumn)
COLUMNS = ("id", *PICTURES, "instruction", *OPTIONS)
REQUIRED = ("image", "instruction")
WITH_A_STYLE = ("image",)  # which may be the whole instruction


def canonical_names(columns: Iterable[str], file: str) -> dict[str, str]:
    """Column of the file -> its canonical name, for those that rayedit knows.

    Raises `ManifestInvalid` for two columns of one meaning, and for one that looks like an
    option or a mask.
    """
    names: dict[str, str] = {}
    for column in columns:
        name = ALIASES.get(column, column)
        if name in COLUMNS:
            if name in names.values():
                raise ManifestInvalid(f"{file} has two columns for {name}: {column} is one")
            names[column] = name
        elif near := _near(column):
            raise ManifestInvalid(
                f'{file}: column "{column}" is not an option. Did you mean "{near[0]}"? '
                "Rename it, so that it is not ignored",
                param=column,
            )
    return names


@lru_cache(10_000)  # a JSONL may have a key more on each line
def _near(column: str) -> list[str]:
    return difflib.get_close_matches(column, (*OPTIONS, "mask"), n=1, cutoff=0.8)


def check_required(
    names: dict[str, str], columns: Iterable[str], file: str, required: Sequence[str]
) -> None:
    """Raises `ManifestInvalid` where a column is missing that every edit needs."""
    for name in WITH_A_STYLE if "style" in names.values() else required:
        if name not in names.values():
            raise ManifestInvalid(
                f'{file} has no column "{name}"; it has {", ".join(columns) or "none"}', param=name
            )


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


_PICTURE = "text (path or URI), bytes, or a struct of bytes and path"
# What a column is for -> the types that can hold it, and how they are called. An option's use is
# its type in JSON.
_KINDS: dict[str, tuple[Callable[[pa.DataType], bool], str]] = {
    "id": (lambda kind: is_text(kind) or types.is_integer(kind), "text or whole numbers"),
    "image": (_are_images, f"{_PICTURE}; or a list of such"),
    "mask": (_is_picture, _PICTURE),
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
