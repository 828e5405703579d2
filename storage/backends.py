"""Storage backends: one row each, with all that fsspec does not make alike.

A new one is a row here; everything that asks for storage looks into this table.
"""

from __future__ import annotations

from dataclasses import dataclass

from storage.location import scheme_of

# Transient errors of each client, by the names of their classes: no client need be installed.
AIOHTTP = frozenset({"ClientConnectionError", "ClientPayloadError"})
BOTOCORE = frozenset(
    {
        "ConnectionClosedError",
        "ConnectTimeoutError",
        "EndpointConnectionError",
        "IncompleteReadError",
        "ReadTimeoutError",
        "ResponseStreamingError",
    }
)
GOOGLE_AUTH = frozenset({"TransportError"})
HTTPX = frozenset({"TransportError"})


@dataclass(frozen=True, slots=True)
class Backend:
    """One kind of storage."""

    scheme: str
    """What stands before "://"."""
    title: str
    """Its name for people."""
    package: str | None = None
    """The package that fsspec needs beside itself; None where rayedit brings it."""
    settings: str = ""
    """The environment variables by which its client finds its way in."""
    may_be_output: bool = False
    """Every worker of a job reaches the same files there, and may write them."""
    version_keys: tuple[str, ...] = ()
    """Keys of fsspec's `info` that change with a file's content; the first one present counts."""
    transient: frozenset[str] = frozenset()
    """Classes of errors after which the same call may succeed, beside time-outs, 429 and 5xx."""
    refused_as_present: frozenset[int] = frozenset()
    """HTTP statuses by which it refuses to create what is there already."""
    never_appears: frozenset[str] = frozenset()
    """Classes of "not found" that no writing mends, such as a bucket that nobody made."""


BACKENDS = (
    Backend("file", "a path, or a shared mount", may_be_output=True, version_keys=("mtime",)),
    Backend(
        "s3",
        "Amazon S3, and what speaks its protocol",
        package="s3fs",
        settings="`AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`, `AWS_ENDPOINT_URL`",
        may_be_output=True,
        version_keys=("ETag",),
        transient=AIOHTTP | BOTOCORE,
        refused_as_present=frozenset({409, 412}),  # 409: another creates it at this moment
        never_appears=frozenset({"NoSuchBucket"}),
    ),
    Backend(
        "gs",
        "Google Cloud Storage",
        package="gcsfs",
        settings="`GOOGLE_APPLICATION_CREDENTIALS`",
        may_be_output=True,
        version_keys=("etag", "md5Hash"),
        transient=AIOHTTP | GOOGLE_AUTH,
        refused_as_present=frozenset({412}),
    ),
    Backend(
        "hf",
        "the Hugging Face hub",
        settings="`HF_TOKEN`",
        version_keys=("blob_id",),
        transient=HTTPX,
    ),
    Backend("memory", "fsspec's files of one process, for trials"),
)

TRANSIENT = frozenset[str]().union(*(backend.transient for backend in BACKENDS))
REFUSED_AS_PRESENT = frozenset[int]().union(*(each.refused_as_present for each in BACKENDS))
NEVER_APPEARS = frozenset[str]().union(*(backend.never_appears for backend in BACKENDS))


def backend_of(location: str) -> Backend | None:
    """Return the backend of a path or URI; None for a scheme that the table does not have."""
    scheme = scheme_of(location)
    return next((backend for backend in BACKENDS if backend.scheme == scheme), None)


def readable() -> str:
    """Name the schemes that images and manifests are read from, for a message."""
    return ", ".join(f"{backend.scheme}://" for backend in BACKENDS)


def writable() -> str:
    """Name the schemes that an output may have, for a message."""
    return ", ".join(f"{backend.scheme}://" for backend in BACKENDS if backend.may_be_output)
