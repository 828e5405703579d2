"""Files of a folder, local or in an object store, each published whole or not at all."""

from __future__ import annotations

import errno
import os
import posixpath
import uuid
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeVar

import fsspec
from fsspec.implementations.local import LocalFileSystem

from engine.errors import OutputUnusable
from storage.backends import NEVER_APPEARS, backend_of, writable
from storage.location import absolute, normalized, scheme_of
from storage.retrying import is_refused_as_present, retrying

T = TypeVar("T")
# `link` to another file system, or on one that has no links, such as exFAT
NO_LINKS = (errno.EXDEV, errno.EPERM, errno.ENOTSUP, errno.EMLINK)


class Storage:
    """A folder, such as the output of a job: a local path, or a URI (`storage.backends`).

    Paths in it are relative, with /. Raises `OSError` where storage fails; an object store is asked
    again first (`retrying`).
    """

    def __init__(self, url: str) -> None:
        self.url = absolute(url).rstrip("/") or "/"
        # uncached: others write here too
        self._fs, root = fsspec.core.url_to_fs(self.url, use_listings_cache=False)
        self._root = root.rstrip("/") or "/"
        self._local = isinstance(self._fs, LocalFileSystem)

    @classmethod
    def open(cls, url: str) -> Storage:
        """Open a folder and look into it. Raises `OutputUnusable` where that fails, and for
        storage that no output may have."""
        if not url.strip():
            raise OutputUnusable("the output is empty: name a folder or URI")
        if normalized(url).startswith("file://"):
            raise OutputUnusable(
                f"{url} cannot be an output: it is of another machine; give a path"
            )
        backend = backend_of(url)
        if backend is None or not backend.may_be_output:
            raise OutputUnusable(
                f"{url} cannot be an output: the workers of a job do not share "
                f"{scheme_of(url)}://, or cannot write it; give a path or one of {writable()}"
            )
        try:
            storage = cls(url)
            storage.list("results")
            return storage
        except Exception as error:  # storage clients raise dozens of kinds
            raise OutputUnusable(f"{url} cannot be used as an output: {error}") from None

    def make(self) -> None:
        """Make the folder, where storage has folders. Raises `OutputUnusable`."""
        if not self._local:
            return
        try:
            os.makedirs(self._root, exist_ok=True)
        except OSError as error:
            raise OutputUnusable(
                f"{self.url} cannot be made: {error.strerror}; give a folder that can be written"
            ) from None

    def uri(self, path: str) -> str:
        """Return where anyone can read the file at `path`."""
        return f"{self.url}/{path}"

    def exists(self, path: str) -> bool:
        """Tell whether a file or folder is at `path`."""
        return self._ask(lambda: self._fs.exists(self._full(path)))

    def read(self, path: str) -> bytes:
        """Read a file. Raises `FileNotFoundError` where there is none."""
        return self._ask(lambda: self._fs.cat_file(self._full(path)))

    def read_range(self, path: str, start: int, end: int) -> bytes:
        """Read the bytes of a file from `start` to before `end`."""
        return self._ask(lambda: self._fs.cat_file(self._full(path), start=start, end=end))

    def size_bytes(self, path: str) -> int:
        """Tell how large a file is. Raises `FileNotFoundError` where there is none."""
        return self._ask(lambda: self._fs.size(self._full(path)))

    def files(self, folder: str) -> list[str]:
        """List the files in `folder` and below it, as paths; none where it is missing."""
        found = self._ask(lambda: self._fs.find(self._full(folder)))
        paths = sorted(path[len(self._root) :].lstrip("/") for path in found)
        return [path for path in paths if posixpath.basename(path)[:1] != "."]

    def list(self, folder: str, suffix: str = "") -> list[str]:
        """List the files directly in `folder`, as sorted paths; none where it is missing."""
        try:
            entries = self._ask(lambda: self._fs.ls(self._full(folder), detail=False))
        except FileNotFoundError as error:
            if type(error.__cause__).__name__ in NEVER_APPEARS:
                raise OSError(str(error)) from error
            return []
        names = sorted(posixpath.basename(entry) for entry in entries)
        return [f"{folder}/{name}" for name in names if name.endswith(suffix) and name[:1] != "."]

    def publish(self, path: str, data: bytes) -> None:
        """Write a file so that a reader sees all of it or none of it."""
        full = self._full(path)
        if not self._local:
            self._ask(lambda: self._fs.pipe_file(full, data))
            return
        part = _write_part(full, data)
        try:
            os.replace(part, full)
        except BaseException:
            os.unlink(part)
            raise

    def publish_new(self, path: str, data: bytes) -> bool:
        """Write a file unless there is one. Returns False where there is, which after a retry may
        be the caller's own: read it back."""
        full = self._full(path)
        if not self._local:
            return self._create_object(full, data)
        part = _write_part(full, data)
        try:
            os.link(part, full)
        except FileExistsError:
            return False
        finally:
            os.unlink(part)
        return True

    def copy_new(self, path: str, source: Storage, source_path: str) -> bool:
        """Bring a file of another storage here unless there is one at `path`: as a hard link where
        both are of one file system, as a copy elsewhere. Returns False where there is."""
        full = self._full(path)
        if self._local and source._local:
            os.makedirs(os.path.dirname(full), exist_ok=True)
            try:
                os.link(source._full(source_path), full)
                return True
            except FileExistsError:
                return False
            except OSError as error:
                if error.errno not in NO_LINKS:
                    raise
        data = source.read(source_path)
        try:
            return self.publish_new(path, data)
        except OSError as error:
            if not self._local or error.errno not in NO_LINKS:
                raise
        return _write_new(full, data)

    def remove(self, path: str) -> None:
        """Remove a file; nothing happens where it is missing."""
        with suppress(FileNotFoundError):
            self._ask(lambda: self._fs.rm_file(self._full(path)))

    def remove_folder(self, path: str) -> None:
        """Remove a folder and what is in it; nothing happens where it is missing."""
        with suppress(FileNotFoundError):
            self._ask(lambda: self._fs.rm(self._full(path), recursive=True))

    def _create_object(self, full: str, data: bytes) -> bool:
        try:
            self._ask(lambda: self._fs.pipe_file(full, data, mode="create"))
        except OSError as error:
            if is_refused_as_present(error):
                return False
            raise
        return True

    def _ask(self, call: Callable[[], T]) -> T:
        if self._local:
            return call()
        try:
            return retrying(call)
        except OSError:
            raise
        except Exception as error:  # storage clients raise dozens of kinds
            raise OSError(f"{self.url}: {type(error).__name__}: {error}") from error

    def _full(self, path: str) -> str:
        return f"{self._root}/{path}"

    def __reduce__(self) -> tuple[Any, ...]:
        return Storage, (self.url,)


def _write_part(full: str, data: bytes) -> str:
    """`data` on the disk beside `full`, under a name that no reader looks at."""
    os.makedirs(os.path.dirname(full), exist_ok=True)
    part = f"{os.path.dirname(full)}/.{uuid.uuid4().hex}.part"
    try:
        with open(part, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
    except BaseException:
        if os.path.exists(part):
            os.unlink(part)
        raise
    return part


def _write_new(full: str, data: bytes) -> bool:
    """Write a file where there are no links, unless there is one; it appears before it is whole."""
    try:
        with open(full, "xb") as file:
            file.write(data)
    except FileExistsError:
        return False
    except BaseException:
        os.unlink(full)
        raise
    return True
