"""A sample of the edited rows: a source and what became of it, as thumbnails."""

from __future__ import annotations

import io
import logging
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from PIL import Image

from batch_jobs.ledger.layout import published_path
from batch_jobs.manifest.embedded import read_embedded
from batch_jobs.manifest.place import Place
from batch_jobs.manifest.reading import Reading
from batch_jobs.manifest.thin import image_sha256
from batch_jobs.report.consistency import Outlier, StyleConsistency
from batch_jobs.report.contact_sheet import SheetRow, thumbnail
from batch_jobs.report.pairs import has_pictures, relative_url
from engine.formats import OPTIONAL_FORMATS
from engine.images import decode
from storage.location import located
from storage.sources import read_source
from storage.storage import Storage

logger = logging.getLogger(__name__)

DrawnStyle = tuple[StyleConsistency, list[tuple[Outlier, Image.Image]]]

SOURCES = 6
STYLES = 6  # whose outliers are drawn
EDITS = 5  # of one source
COLUMNS = ["id", "status", "instruction", "source", "place", "source_sha256", "outputs"]


def sample_rows(storage: Storage, results: pa.Table, base: str, reading: Reading) -> list[SheetRow]:
    """Draw a sample of the edited rows, grouped by source; what is gone or another is left out.

    `base`: the folder that relative sources start from.
    """
    sheet = []
    for group in _fullest_groups(results):
        try:
            data = _source_bytes(group[0], base, reading)
            if image_sha256(data) != group[0]["source_sha256"]:
                continue  # another picture lies in its place now
            source = thumbnail(decode(data, OPTIONAL_FORMATS).image)  # it was accepted before
            edits = [(row["instruction"], thumbnail(_output(storage, row))) for row in group]
        except Exception as error:  # gone since: the sheet is a sample, and never ends a job
            logger.info("row %s is not in the report: %s", group[0]["id"], error)
            continue
        files = [published_path(row["outputs"][0]["uri"]) for row in group]
        sheet.append(SheetRow(source, edits, _source_url(storage, group[0], base), files))
    return sheet


def _fullest_groups(results: pa.Table) -> Iterator[list[dict[str, Any]]]:
    """Rows of the sources that were edited most, in the order of their ids."""
    ok = results.select(COLUMNS).filter(has_pictures(results)).sort_by("id")
    counts = Counter(ok["source_sha256"].to_pylist())
    fullest = sorted(counts, key=lambda digest: -min(counts[digest], EDITS))
    for digest in fullest[:SOURCES]:
        yield ok.filter(pc.equal(ok["source_sha256"], digest))[:EDITS].to_pylist()


def _source_bytes(row: dict[str, Any], base: str, reading: Reading) -> bytes:
    if row["place"] is None:
        return read_source(row["source"], base)
    found = dict(read_embedded([Place(**row["place"])], reading)).get(0)
    return found.image or b"" if found else b""


def _source_url(storage: Storage, row: dict[str, Any], base: str) -> str | None:
    source = row["source"]
    return source and relative_url(located(source, base), storage.url)


def _output(storage: Storage, row: dict[str, Any]) -> Image.Image:
    return _opened(storage, published_path(row["outputs"][0]["uri"]))


def _opened(storage: Storage, path: str) -> Image.Image:
    """Open an image by its place in the output, which may have been moved."""
    return Image.open(io.BytesIO(storage.read(path)))


def drawn_outliers(storage: Storage, styles: list[StyleConsistency]) -> list[DrawnStyle]:
    """Draw the outliers of the styles that most rows have; one that is gone is left out."""
    drawn = []
    for style in styles[:STYLES]:
        pictures = []
        for outlier in style.outliers:
            try:
                pictures.append((outlier, thumbnail(_opened(storage, outlier.path))))
            except Exception as error:  # gone since: as of a sheet
                logger.info("%s is not in the report: %s", outlier.path, error)
        drawn.append((style, pictures))
    return drawn
