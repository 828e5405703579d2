"""Triplets (source, instruction, target) of manifests: read thin, their pictures when asked for."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import fsspec

from batch_jobs.manifest.cells import Embedded
from batch_jobs.manifest.columns import Chosen
from batch_jobs.manifest.embedded import read_embedded
from batch_jobs.manifest.plan import base_of, open_manifest
from batch_jobs.manifest.planned import PlannedRow, planned_rows
from batch_jobs.manifest.reading import Reading
from engine.errors import EngineError, ImageMissing, ManifestInvalid
from engine.text import clean_instruction
from storage.sources import read_source
from triplet_jobs.data_set import ACCOUNT, DATA

# What data sets call the edited picture; sources and instructions have the names that every
# manifest may use (`batch_jobs.manifest.columns`).
TARGETS = (
    "edited_image",  # InstructPix2Pix, UltraEdit, and what `rayedit triplets` writes
    "target_img",  # MagicBrush
    "edited_img",  # OmniEdit
    "edited_file",  # AnyEdit
    "output_image",  # HQ-Edit, Pico-Banana-400K
    "output_images",  # ImgEdit
    "edited_image_file_name",  # `rayedit export --to imagefolder`
    "target_image",
    "target",
    "edited",
)


@dataclass(frozen=True, slots=True)
class Triplet:
    """Names the two pictures of an instruction."""

    instruction: str
    halves: tuple[PlannedRow, PlannedRow]  # of the source, of the target

    @property
    def name(self) -> str:
        """Name it by its pictures, for a digest."""
        return "\0".join(str(one.image or one.image_sha256) for one in self.halves)


Pictures = tuple[bytes, bytes]  # files: source, target


class TripletFile:
    """The triplets of one manifest, folder of manifests, or output of `rayedit triplets`."""

    def __init__(self, location: str, chosen: Chosen = (), target: str | None = None) -> None:
        """`chosen`: (column, "image" or "instruction"); `target`: the column of edited pictures.

        Raises `ManifestInvalid`.
        """
        place = _data_of(location)
        self._base = base_of(place)
        sources = Reading(columns=tuple(chosen))
        manifest = open_manifest(place, sources)
        beside = {
            name for rows in manifest.files.values() for name in (*rows.carried, *rows.dropped)
        }
        target = target or next((name for name in TARGETS if name in beside), None)
        if target is None:
            raise ManifestInvalid(
                f"{location} has no column of edited pictures, such as {', '.join(TARGETS[:4])}; "
                "name it: --edited_image_column NAME"
            )
        targets = Reading(columns=((target, "image"),), needs=("image",), carry=False)
        self._readings = (sources, targets)
        plans = (manifest.plan, open_manifest(place, targets).plan)
        pairs = zip(*map(planned_rows, plans), strict=True)
        self.triplets = [Triplet(source.instruction or "", (source, to)) for source, to in pairs]

    def pictures(self, rows: range) -> Iterator[Pictures | EngineError]:
        """Read the files of some triplets; in the place of one that has a fault, that."""
        sides = []
        for side, reading in enumerate(self._readings):
            wanted = [self.triplets[row].halves[side] for row in rows]
            held = dict(read_embedded([one.place for one in wanted], reading))
            sides.append([self._file(one, held.get(n)) for n, one in enumerate(wanted)])
        for row, source, target in zip(rows, *sides, strict=True):
            yield _whole(self.triplets[row].instruction, source, target)

    def _file(self, row: PlannedRow, held: Embedded | None) -> bytes | EngineError:
        if row.fault is not None:
            return row.fault.error()
        if row.image is None:
            data = held.image if held else None
            return data or ImageMissing("there is no picture")
        try:
            return read_source(row.image, self._base)
        except EngineError as error:
            return error
        except Exception as error:  # storage clients raise dozens of kinds
            return ImageMissing(f"{row.image} cannot be read: {error}")


def _whole(
    instruction: str, source: bytes | EngineError, target: bytes | EngineError
) -> Pictures | EngineError:
    try:
        clean_instruction(instruction)
    except EngineError as error:
        return error
    if isinstance(source, EngineError):
        return source
    return target if isinstance(target, EngineError) else (source, target)


def _data_of(location: str) -> str:
    """The data set in the output of `rayedit triplets`; any other place as it is."""
    folder = location.rstrip("/")
    fs, path = fsspec.core.url_to_fs(f"{folder}/{ACCOUNT}")
    return f"{folder}/{DATA}" if fs.exists(path) else location


class TripletFiles:
    """Several of them as one list."""

    def __init__(self, files: Sequence[TripletFile], most: int | None = None) -> None:
        """`most`: the first so many of them alone."""
        self._files = files
        self.triplets = [triplet for file in files for triplet in file.triplets][:most]

    def __len__(self) -> int:
        return len(self.triplets)

    @property
    def digest(self) -> str:
        """Digest which pictures they are of."""
        names = "\n".join(triplet.name for triplet in self.triplets)
        return hashlib.sha256(names.encode()).hexdigest()[:16]

    def pictures(self, rows: range) -> Iterator[Pictures | EngineError]:
        """See `TripletFile.pictures`."""
        first = 0
        for file in self._files:
            last = first + len(file.triplets)
            inside = range(max(rows.start, first) - first, min(rows.stop, last) - first)
            if inside:
                yield from file.pictures(inside)
            first = last
