"""`--check-sources`: whether an image behind a path or URI is still the one that was edited."""

from __future__ import annotations

import posixpath
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import fsspec

from batch_jobs.retrying import retrying

THREADS = 32
# What tells two versions apart, by storage: S3, Google, the hub, HTTP; local files have a time.
MARKS = ("ETag", "etag", "md5Hash", "blob_id", "mtime")


def source_states(images: Sequence[str | None], base: str) -> list[str | None]:
    """ "size mark" of each image, "absent" where there is none, None where the manifest holds it.

    `base`: the folder that relative paths start from. An image is asked for once.
    """
    named = sorted({image for image in images if image is not None})
    with ThreadPoolExecutor(THREADS) as pool:
        states = dict(zip(named, pool.map(lambda image: _state(image, base), named), strict=True))
    return [None if image is None else states[image] for image in images]


def _state(image: str, base: str) -> str:
    location = image if "://" in image else posixpath.join(base, image)
    try:
        fs, path = fsspec.core.url_to_fs(location)
        info = retrying(lambda: fs.info(path))
    except (OSError, ValueError, ImportError):  # what is wrong with it, its row will say
        return "absent"
    mark = next((info[name] for name in MARKS if info.get(name)), "")
    return f"{info.get('size')} {mark}"
