"""Pairs as a data set of triplets in Parquet, in the columns of one that is known."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from batch_jobs.export.pairs import PICTURES, ROWS_AT_ONCE, Pair, Pairs, Picture

PICTURE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
_NUMBERS = (
    *("guidance_scale", "image_guidance_scale", "change", "edge_correlation"),
    *("clip_sim_0", "clip_sim_1", "clip_sim_dir", "clip_sim_image", "following"),
    *("dinov2_sim", "ssim"),
)
# The columns of a data set, in its order -> what each holds: a picture, or what is told of a pair.
# What a manifest carried comes after them, or into one of them that has its name.
ULTRA_EDIT = {
    "idx": "id",
    "source_image": "source",
    "edited_image": "edited",
    "edit_prompt": "instruction",
    "mask_image": "mask",
    "edit_object": "edit_object",
    "source_caption": "caption",
    "target_caption": "edited_caption",
    "clip_sim_source": "clip_sim_0",
    "clip_sim_target": "clip_sim_1",
    "clip_sim_dir": "clip_sim_dir",
    "clip_sim_image": "clip_sim_image",
    "dinov2_sim": "dinov2_sim",
    "ssim": "ssim",
}
# timbrooks/instructpix2pix-clip-filtered; then what is known of a pair beside.
INSTRUCT_PIX2PIX = {
    "original_prompt": "caption",
    "original_image": "source",
    "edit_prompt": "instruction",
    "edited_prompt": "edited_caption",
    "edited_image": "edited",
    "id": "id",
    "seed": "seed",
    **{name: name for name in _NUMBERS[:-2]},
}


class Triplets:
    """Writes pairs as rows of a table."""

    def __init__(self, pairs: Pairs, columns: Mapping[str, str]) -> None:
        self._pairs, self._columns = pairs, columns
        self._rest = dict.fromkeys(
            name for one in pairs.carried for name in one if name not in columns
        )
        self.schema = _schema(columns, self._rest, pairs.carried)

    def write(self, file: BinaryIO) -> None:
        """Write them as Parquet, a row for each edited image; raises `OutputUnusable`."""
        with pq.ParquetWriter(file, self.schema, compression="zstd") as writer:
            for group in self.groups():
                writer.write_table(group)

    def groups(self) -> Iterator[pa.Table]:
        """Yield them as tables of `ROWS_AT_ONCE` rows; raises `OutputUnusable`."""
        pairs = iter(self._pairs)
        while rows := [self._row(pair) for pair in islice(pairs, ROWS_AT_ONCE)]:
            yield pa.Table.from_pylist(rows, schema=self.schema)

    def _row(self, pair: Pair) -> dict[str, Any]:
        row: dict[str, Any] = {}
        pictures = {name: _struct(getattr(pair, name)) for name in PICTURES}
        told = {"id": pair.id, **pair.told}
        for field in self.schema:
            meaning = self._columns.get(field.name)
            if meaning in pictures:
                row[field.name] = pictures[meaning]
                continue
            value = told.get(meaning) if meaning else None
            value = pair.carried.get(field.name) if value is None else value
            row[field.name] = _fitting(value, field.type)
        return row


def _struct(picture: Picture | None) -> dict[str, Any] | None:
    return None if picture is None else {"bytes": picture.data, "path": picture.name}


def _schema(
    columns: Mapping[str, str], rest: Mapping[str, None], carried: Sequence[dict[str, Any]]
) -> pa.Schema:
    """List a data set's columns, then those that were carried; as `datasets` reads them too."""
    fields = [pa.field(name, _type_of_meaning(meaning)) for name, meaning in columns.items()]
    fields += [pa.field(name, _type_of([one.get(name) for one in carried])) for name in rest]
    features = {
        field.name: {"_type": "Image"}
        if field.type == PICTURE
        else {"dtype": "float64" if field.type == pa.float64() else str(field.type)}
        | {"_type": "Value"}
        for field in fields
    }
    told = {"huggingface": json.dumps({"info": {"features": features}})}
    return pa.schema(fields, metadata=told)


def _type_of_meaning(meaning: str) -> pa.DataType:
    if meaning in PICTURES:
        return PICTURE
    if meaning == "seed":
        return pa.int64()
    return pa.float64() if meaning in _NUMBERS else pa.string()


def _type_of(values: Sequence[Any]) -> pa.DataType:
    given = [value for value in values if value is not None]
    numbers = all(isinstance(v, int | float) and not isinstance(v, bool) for v in given)
    return pa.float64() if numbers else pa.string()


def _fitting(value: Any, kind: pa.DataType) -> Any:
    """Make a value that a column of this type holds."""
    if value is None or kind == pa.string():
        return value if isinstance(value, str | None) else json.dumps(value, ensure_ascii=False)
    try:
        return int(value) if kind == pa.int64() else float(value)
    except (TypeError, ValueError):
        return None
