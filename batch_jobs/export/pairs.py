"""What a job edited as pairs of pictures, with all that is told of each: sources of a data set."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from batch_jobs.export.lines import READERS, told_beside
from batch_jobs.ledger.entry import Entry, Output, from_ledger
from batch_jobs.ledger.layout import published_path
from batch_jobs.manifest.embedded import read_embedded
from batch_jobs.manifest.reading import Reading
from batch_jobs.manifest.thin import image_sha256
from engine.errors import OutputUnusable
from storage.sources import read_source
from storage.storage import Storage

ROWS_AT_ONCE = 32  # read, and written as a row group: pictures of 8 MB are a quarter of a GB
PICTURES = ("source", "edited", "mask")
# What data sets call a caption.
CAPTIONS = {
    "caption": (
        *("source_caption", "source_global_caption", "original_prompt", "input_caption"),
        *("input", "caption"),
    ),
    "edited_caption": (
        *("target_caption", "target_global_caption", "edited_prompt", "output_caption"),
        *("output", "edited_caption"),
    ),
}
SCALES = ("guidance_scale", "image_guidance_scale")
OPTIONS = ("seed", *SCALES)  # that a data set of pairs tells


@dataclass(frozen=True, slots=True)
class Picture:
    """A file, as it lies in a job's output or at its source."""

    data: bytes
    name: str | None  # None where a manifest holds the source


@dataclass(frozen=True, slots=True)
class Pair:
    """A picture before and after its edit."""

    id: str  # of the row; of a further image of it with "#2"
    source: Picture
    edited: Picture
    mask: Picture | None
    told: dict[str, Any]  # instruction, captions, options, scores: by one name each
    carried: dict[str, Any]  # what its manifest said beside


class Pairs:
    """The edited rows of a ledger as pairs; rows without pictures are none."""

    def __init__(self, storage: Storage, base: str, reading: Reading, table: pa.Table) -> None:
        """`base`: the folder that relative sources start from; `reading`: of the manifest."""
        self._storage, self._base, self._reading = storage, base, reading
        has_some = pc.greater(pc.fill_null(pc.list_value_length(table["outputs"]), 0), 0)
        self._entries = from_ledger(table.filter(has_some))
        self._told = [_captions(told_beside(entry)) for entry in self._entries]

    @property
    def carried(self) -> list[dict[str, Any]]:
        """List what each row's manifest said beside, captions aside."""
        return [carried for _, carried in self._told]

    @property
    def rows(self) -> int:
        """Count the rows of the ledger that they are of."""
        return len(self._entries)

    def __iter__(self) -> Iterator[Pair]:
        """Yield the pairs of all rows, in their order.

        Raises `OutputUnusable` where a picture is gone, or a source is another one now.
        """
        with ThreadPoolExecutor(READERS) as pool:
            for start in range(0, len(self._entries), ROWS_AT_ONCE):
                entries = self._entries[start : start + ROWS_AT_ONCE]
                sources = self._sources(entries, pool)
                for entry, told, source in zip(entries, self._told[start:], sources, strict=False):
                    yield from self._of(entry, *told, source)

    def _of(
        self, entry: Entry, captions: dict[str, Any], carried: dict[str, Any], source: Picture
    ) -> Iterator[Pair]:
        options = {name: getattr(entry.options, name, None) for name in OPTIONS}
        scores = {} if entry.scores is None else asdict(entry.scores)
        told = {"instruction": entry.instruction, **captions, **options, **scores}
        for number, output in enumerate(entry.outputs, start=1):
            yield Pair(
                entry.id if number == 1 else f"{entry.id}#{number}",
                self._published(entry, output.source_uri) or source,
                self._published(entry, output.uri) or source,
                self._mask(entry),
                {**told, **_scales(output), "seed": output.seed},
                carried,
            )

    def _published(self, entry: Entry, uri: str | None) -> Picture | None:
        if uri is None:
            return None
        path = published_path(uri)
        return Picture(_or_gone(entry, lambda: self._storage.read(path)), _name(path))

    def _mask(self, entry: Entry) -> Picture | None:
        if entry.mask is None:
            return None
        mask = entry.mask
        return Picture(_or_gone(entry, lambda: read_source(mask, self._base)), _name(mask))

    def _sources(self, entries: Sequence[Entry], pool: ThreadPoolExecutor) -> list[Picture]:
        """Read the sources of rows whose outputs have none of their own."""
        places = [None if _has_source(entry) else entry.place for entry in entries]
        held = dict(read_embedded(places, self._reading))

        def read(position: int) -> Picture:
            entry, found = entries[position], held.get(position)
            if _has_source(entry):
                return Picture(b"", None)
            if entry.source is not None:
                source = entry.source
                data = _or_gone(entry, lambda: read_source(source, self._base))
            else:
                data = (found.image if found else None) or b""
            if image_sha256(data) != entry.source_sha256:
                raise OutputUnusable(
                    f"the source of row {entry.id} is another one now: run the job again"
                )
            return Picture(data, _name(entry.source))

        return list(pool.map(read, range(len(entries))))


def _has_source(entry: Entry) -> bool:
    return all(output.source_uri is not None for output in entry.outputs)


def _scales(output: Output) -> dict[str, Any]:
    """Name the scales of a picture whose guidance set itself."""
    guided = output.edit_report and output.edit_report.guided
    return {} if guided is None else {name: getattr(guided, name) for name in SCALES}


def _or_gone(entry: Entry, read: Callable[[], bytes]) -> bytes:
    try:
        return bytes(read())
    except Exception as error:  # storage clients raise dozens of kinds
        raise OutputUnusable(f"a picture of row {entry.id} cannot be read: {error}") from None


def _name(path: str | None) -> str | None:
    return None if path is None else path.rsplit("/", 1)[-1]


def _captions(told: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Take the captions out of what a manifest said, whatever it calls them."""
    rest, captions = dict(told), {}
    for caption, names in CAPTIONS.items():
        found = next((name for name in names if name in rest), None)
        if found is not None:
            captions[caption] = rest.pop(found)
    return captions, rest
