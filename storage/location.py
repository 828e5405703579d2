"""A location: a path of this machine, or a URI that names its storage."""

from __future__ import annotations

import os


def is_uri(location: str) -> bool:
    """Tell a URI from a path by its "://", as fsspec does."""
    return "://" in location


def scheme_of(location: str) -> str:
    """Return the scheme of a URI in lower case, "file" for a path."""
    scheme, separator, _ = location.partition("://")
    return scheme.lower() if separator else "file"


def absolute(location: str) -> str:
    """Make a path independent of the working folder; a URI is already."""
    return location if is_uri(location) else os.path.abspath(location)


def is_relative(location: str) -> bool:
    """Tell a path that depends on a folder from one that does not, and from a URI."""
    return not is_uri(location) and not os.path.isabs(location)


def located(location: str, base: str) -> str:
    """Return where a location is that stands in a file of the folder `base`, a path or URI."""
    return f"{base.rstrip('/')}/{location}" if base and is_relative(location) else location
