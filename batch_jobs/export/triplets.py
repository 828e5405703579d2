"""What a job edited as a data set of triplets, in the columns of UltraEdit."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from batch_jobs.export.lines import READERS, told_beside
from batch_jobs.ledger.entry import Entry, from_ledger
from batch_jobs.ledger.layout import published_path
from batch_jobs.manifest.embedded import read_embedded
from batch_jobs.manifest.reading import Reading
from batch_jobs.manifest.thin import image_sha256
from engine.errors import OutputUnusable
from storage.sources import read_source
from storage.storage import Storage

ROWS_AT_ONCE = 32  # read, and written as a row group: pictures of 8 MB are a quarter of a GB
PICTURE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
PICTURES = ("source_image", "edited_image", "mask_image")
TEXTS = ("edit_object", "source_caption", "target_caption")
SCORES = (
    *("clip_sim_source", "clip_sim_target", "clip_sim_dir", "clip_sim_image"),
    *("dinov2_sim", "ssim"),
)
# What other data sets call a caption.
CAPTIONS = {
    "source_caption": ("source_global_caption", "original_prompt", "input_caption", "input"),
    "target_caption": ("target_global_caption", "edited_prompt", "output_caption", "output"),
}


class Triplets:
    """The edited rows of a ledger as triplets, with what their manifest carried."""

    def __init__(self, storage: Storage, base: str, reading: Reading, table: pa.Table) -> None:
        self._storage, self._base, self._reading = storage, base, reading
        self._entries = from_ledger(table)
        self._carried = [_named(told_beside(entry)) for entry in self._entries]
        self.schema = _schema(self._carried)

    def write(self, file: BinaryIO) -> None:
        """Write them as Parquet, a row for each edited image.

        Raises `OutputUnusable` where a picture is gone, or a source is another one now.
        """
        pairs = list(zip(self._entries, self._carried, strict=True))
        with (
            pq.ParquetWriter(file, self.schema, compression="zstd") as writer,
            ThreadPoolExecutor(READERS) as pool,
        ):
            for start in range(0, len(pairs), ROWS_AT_ONCE):
                part = pairs[start : start + ROWS_AT_ONCE]
                sources = self._sources([entry for entry, _ in part], pool)
                rows = [
                    row
                    for (entry, carried), source in zip(part, sources, strict=True)
                    for row in self._rows(entry, carried, source)
                ]
                writer.write_table(pa.Table.from_pylist(rows, schema=self.schema))

    def _rows(
        self, entry: Entry, carried: dict[str, Any], source: bytes
    ) -> Iterator[dict[str, Any]]:
        for number, output in enumerate(entry.outputs, start=1):
            path = published_path(output.uri)
            edited = _or_gone(entry, lambda path=path: self._storage.read(path))
            yield {
                **{
                    name: _fitting(carried.get(name), self.schema.field(name).type)
                    for name in carried
                },
                "idx": entry.id if number == 1 else f"{entry.id}#{number}",
                "source_image": {"bytes": source, "path": _name(entry.source)},
                "edited_image": {"bytes": edited, "path": _name(path)},
                "mask_image": self._mask(entry),
                "edit_prompt": entry.instruction,
            }

    def _mask(self, entry: Entry) -> dict[str, Any] | None:
        if entry.mask is None:
            return None
        mask = entry.mask
        data = _or_gone(entry, lambda: read_source(mask, self._base))
        return {"bytes": data, "path": _name(mask)}

    def _sources(self, entries: Sequence[Entry], pool: ThreadPoolExecutor) -> list[bytes]:
        held = dict(read_embedded([entry.place for entry in entries], self._reading))

        def read(position: int) -> bytes:
            entry, found = entries[position], held.get(position)
            if entry.source is not None:
                source = entry.source
                data = _or_gone(entry, lambda: read_source(source, self._base))
            else:
                data = (found.image if found else None) or b""
            if image_sha256(data) != entry.source_sha256:
                raise OutputUnusable(
                    f"the source of row {entry.id} is another one now: run the job again"
                )
            return data

        return list(pool.map(read, range(len(entries))))


def _or_gone(entry: Entry, read: Any) -> bytes:
    try:
        return bytes(read())
    except Exception as error:  # storage clients raise dozens of kinds
        raise OutputUnusable(f"a picture of row {entry.id} cannot be read: {error}") from None


def _name(path: str | None) -> str | None:
    return None if path is None else path.rsplit("/", 1)[-1]


def _named(carried: dict[str, Any]) -> dict[str, Any]:
    """Give captions UltraEdit's names; what has the name of a column that is written here goes."""
    named = {name: value for name, value in carried.items() if name not in (*PICTURES, "idx")}
    for caption, others in CAPTIONS.items():
        other = next((name for name in others if name in named), None)
        if caption not in named and other is not None:
            named[caption] = named.pop(other)
    named.pop("edit_prompt", None)
    return named


def _schema(carried: Sequence[dict[str, Any]]) -> pa.Schema:
    """List UltraEdit's columns, then those that were carried; as `datasets` reads them too."""
    known = [pa.field("idx", pa.string())]
    known += [pa.field(name, PICTURE) for name in PICTURES[:2]]
    known += [pa.field("edit_prompt", pa.string()), pa.field("mask_image", PICTURE)]
    known += [pa.field(name, pa.string()) for name in TEXTS]
    known += [pa.field(name, pa.float64()) for name in SCORES]
    ours = {field.name for field in known}
    names = dict.fromkeys(name for values in carried for name in values if name not in ours)
    rest = [pa.field(name, _type_of([one.get(name) for one in carried])) for name in names]
    features = {
        field.name: {"_type": "Image"}
        if field.type == PICTURE
        else {"dtype": "float64" if field.type == pa.float64() else "string", "_type": "Value"}
        for field in (*known, *rest)
    }
    told = {"huggingface": json.dumps({"info": {"features": features}})}
    return pa.schema([*known, *rest], metadata=told)


def _type_of(values: Sequence[Any]) -> pa.DataType:
    given = [value for value in values if value is not None]
    numbers = all(isinstance(v, int | float) and not isinstance(v, bool) for v in given)
    return pa.float64() if numbers else pa.string()


def _fitting(value: Any, kind: pa.DataType) -> Any:
    """Make a value that a column of this type holds."""
    if value is None or kind == pa.string():
        return value if isinstance(value, str | None) else json.dumps(value, ensure_ascii=False)
    try:
        return float(value)
    except (TypeError, ValueError):
        return None
