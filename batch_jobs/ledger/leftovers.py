"""Files of an output that no row of its ledger names: of rows that were edited again, or left."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pyarrow.compute as pc

from batch_jobs.ledger.layout import IMAGES, MASKS, SOURCES, published_path
from batch_jobs.ledger.ledger import READERS, Ledger
from storage.storage import Storage


def leftovers(storage: Storage) -> list[str]:
    """List the files of pictures that the ledger does not name, as paths in the output."""
    outputs = pc.list_flatten(Ledger(storage).read(["outputs"])["outputs"])
    names = ("uri", "mask_uri", "source_uri")
    uris = [pc.struct_field(outputs, name).to_pylist() for name in names]
    named = {published_path(uri) for column in uris for uri in column if uri}
    found = [path for folder in (IMAGES, MASKS, SOURCES) for path in storage.files(folder)]
    return [path for path in found if path not in named]


def prune(storage: Storage) -> int:
    """Remove them, and count them; only who owns the output may."""
    paths = leftovers(storage)
    with ThreadPoolExecutor(READERS) as pool:
        list(pool.map(storage.remove, paths))
    return len(paths)
