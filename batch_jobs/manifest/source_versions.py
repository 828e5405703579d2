"""`--check-sources`: whether an image behind a path or URI is still the one that was edited."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from engine.errors import ImageSourceRefused, ManifestInvalid
from storage.backends import backend_of
from storage.retrying import retrying
from storage.sources import filesystem_of, is_absent, places_of

THREADS = 32


def source_versions(images: Sequence[str | None], base: str) -> list[str | None]:
    """Ask storage for the version of each image, "absent" where there is none.

    None stands for an image that the manifest holds. `base`: the folder that relative paths start
    from. An image is asked for once. Raises `ManifestInvalid` where storage does not say: what it
    fails on now is not absent.
    """
    named = sorted({image for image in images if image is not None})
    with ThreadPoolExecutor(THREADS) as pool:
        versions = dict(
            zip(named, pool.map(lambda image: _version(image, base), named), strict=True)
        )
    return [None if image is None else versions[image] for image in images]


def _version(image: str, base: str) -> str:
    try:
        places = places_of(image, base)
    except ImageSourceRefused:
        return "absent"  # what is wrong with it, its row will say
    for place in places:
        try:
            return version_of(place)
        except Exception as error:  # storage clients raise dozens of kinds
            if isinstance(error, OSError) and is_absent(error):
                continue
            raise ManifestInvalid(
                f"--check-sources: storage does not say whether {image} has changed: {error}; "
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
