"""A location: a path of this machine, or a URI that names its storage."""

from __future__ import annotations

import os
import unicodedata
from urllib.parse import unquote

FIXED = r"^/|://"  # a regex for Arrow, which finds what `is_relative` says no of


def is_uri(location: str) -> bool:
    """Tell a URI from a path by its "://", as fsspec does."""
    return "://" in location


def scheme_of(location: str) -> str:
    """Return the scheme of a URI in lower case, "file" for a path."""
    scheme, separator, _ = location.partition("://")
    return scheme.lower() if separator else "file"


def normalized(location: str) -> str:
    """Spell a location as fsspec reads it: a URI's scheme in lower case, a local file's URI as its
    path (RFC 8089: "file:///a%20b" and "file://localhost/a%20b" are "/a b").

    A "%" that stands in the name of an existing file means itself. The URI of a file of another
    machine stays one.
    """
    scheme, separator, rest = location.partition("://")
    if not separator:
        return location
    host, slash, path = rest.partition("/")
    if scheme.lower() != "file" or host.lower() not in ("", "localhost"):
        return f"{scheme.lower()}://{rest}"
    path = slash + path
    return path if os.path.lexists(path) else unquote(path)


def spellings(location: str) -> list[str]:
    """Return `location` as it is, then with its accents composed and decomposed, where that
    differs: macOS writes names decomposed, most keyboards type them composed."""
    forms = (unicodedata.normalize(form, location) for form in ("NFC", "NFD"))
    return list(dict.fromkeys((location, *forms)))


def absolute(location: str) -> str:
    """Make a path independent of the working folder; a URI is already."""
    location = normalized(location)
    return location if is_uri(location) else os.path.abspath(location)


def is_relative(location: str) -> bool:
    """Tell a path that depends on a folder from one that does not, and from a URI."""
    return not is_uri(location) and not os.path.isabs(location)


def located(location: str, base: str) -> str:
    """Return where a location is that stands in a file of the folder `base`, a path or URI."""
    return f"{base.rstrip('/')}/{location}" if base and is_relative(location) else location
