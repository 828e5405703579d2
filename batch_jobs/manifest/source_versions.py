"""`--check-sources`: whether an image behind a path or URI is still the one that was edited."""

from __future__ import annotations

import posixpath
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import fsspec

from batch_jobs.storage.retrying import retrying
from engine.errors import ManifestInvalid
from engine.sources import STORAGE_SCHEMES

THREADS = 32
# What tells two versions apart, by storage: S3, Google, the hub, HTTP; local files have a time.
MARKS = ("ETag", "etag", "md5Hash", "blob_id", "mtime")


def source_states(images: Sequence[str | None], base: str) -> list[str | None]:
    """ "size mark" of each image, "absent" where there is none, None where the manifest holds it.

    `base`: the folder that relative paths start from. An image is asked for once. Raises
    `ManifestInvalid` where storage does not say: what it fails on now is not absent.
    """
    named = sorted({image for image in images if image is not None})
    with ThreadPoolExecutor(THREADS) as pool:
        states = dict(zip(named, pool.map(lambda image: _state(image, base), named), strict=True))
    return [None if image is None else states[image] for image in images]


def _state(image: str, base: str) -> str:
    scheme, is_uri, _ = image.partition("://")
    if "\0" in image or (is_uri and scheme.lower() not in STORAGE_SCHEMES):
        return "absent"  # what is wrong with it, its row will say
    location = image if is_uri else posixpath.join(base, image)
    try:
        return version_of(location)
    except (FileNotFoundError, NotADirectoryError):
        return "absent"
    except Exception as error:  # storage clients raise dozens of kinds
        raise ManifestInvalid(
            f"--check-sources: storage does not say whether {image} has changed: {error}; mend "
            "that and run it again",
            param="check_sources",
        ) from None


def version_of(location: str) -> str:
    """ "size mark": what tells a file from what was there before it."""
    fs, path = fsspec.core.url_to_fs(location)
    info = retrying(lambda: fs.info(path))
    mark = next((info[name] for name in MARKS if info.get(name)), "")
    return f"{info.get('size')} {mark}"
