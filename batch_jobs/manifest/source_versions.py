"""`--check-sources`: whether a picture behind a path or URI is still the one of the edit."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice

import pyarrow as pa
import pyarrow.compute as pc

from batch_jobs.manifest.planned import reference_paths
from engine.errors import ImageSourceRefused, ManifestInvalid
from storage.backends import backend_of
from storage.retrying import retrying
from storage.sources import filesystem_of, is_absent, places_of

THREADS = 32


def source_versions(pictures: Sequence[str | None], base: str) -> list[str | None]:
    """Ask storage for the version of each picture (image or mask), "absent" where there is none.

    None stands for one that the manifest does not name. `base`: the folder that relative paths
    start from. Each is asked for once. Raises `ManifestInvalid` where storage does not say: what it
    fails on now is not absent.
    """
    named = sorted({picture for picture in pictures if picture is not None})
    with ThreadPoolExecutor(THREADS) as pool:
        versions = dict(
            zip(named, pool.map(lambda picture: _version(picture, base), named), strict=True)
        )
    return [None if picture is None else versions[picture] for picture in pictures]


def reference_versions(plan: pa.Table, base: str) -> list[list[str | None]]:
    """Ask the same of the further images of each row of a plan."""
    versions = iter(source_versions(reference_paths(plan).to_pylist(), base))
    counts = pc.list_value_length(plan["references"]).to_pylist()
    return [list(islice(versions, count)) for count in counts]


def _version(picture: str, base: str) -> str:
    try:
        places = places_of(picture, base)
    except ImageSourceRefused:
        return "absent"  # what is wrong with it, its row will say
    for place in places:
        try:
            return version_of(place)
        except Exception as error:  # storage clients raise dozens of kinds
            if isinstance(error, OSError) and is_absent(error):
                continue
            raise ManifestInvalid(
                f"--check-sources: storage does not say whether {picture} has changed: {error}; "
                "mend that and run it again",
                param="check_sources",
            ) from None
    return "absent"


def version_of(location: str) -> str:
    """Ask storage for "size version", which tells a file from what was there before it."""
    fs, path = filesystem_of(location)
    info = retrying(lambda: fs.info(path))
    backend = backend_of(location)
    keys = backend.version_keys if backend else ()
    version = next((info[key] for key in keys if info.get(key)), "")
    return f"{info.get('size')} {version}"
