"""Files of a job, local or in an object store, each published whole or not at all."""

from __future__ import annotations

import os
import posixpath
import uuid
from typing import Any

import fsspec
from fsspec.implementations.local import LocalFileSystem

from engine.errors import OutputUnusable


class Storage:
    """A folder of a job: a local path, or a URI that fsspec knows (s3://, gs://)."""

    def __init__(self, url: str) -> None:
        self.url = (url if "://" in url else os.path.abspath(url)).rstrip("/") or "/"
        self._fs, root = fsspec.core.url_to_fs(self.url)
        self._root = root.rstrip("/") or "/"
        self._local = isinstance(self._fs, LocalFileSystem)

    @classmethod
    def open(cls, url: str) -> Storage:
        """Raises `OutputUnusable` where nothing can be read or written."""
        try:
            storage = cls(url)
            storage.list("results")
            return storage
        except Exception as error:  # storage clients raise dozens of kinds
            raise OutputUnusable(f"{url} cannot be used as an output: {error}") from None

    def uri(self, path: str) -> str:
        """Where `path` (relative, with /) can be read by anyone."""
        return f"{self.url}/{path}"

    def exists(self, path: str) -> bool:
        return self._fs.exists(self._full(path))

    def read(self, path: str) -> bytes:
        return self._fs.cat_file(self._full(path))

    def list(self, folder: str, suffix: str = "") -> list[str]:
        """The files directly in `folder`, sorted, as relative paths; none where it is missing."""
        self._fs.invalidate_cache()
        try:
            entries = self._fs.ls(self._full(folder), detail=False)
        except FileNotFoundError:
            return []
        names = sorted(posixpath.basename(entry) for entry in entries)
        return [f"{folder}/{name}" for name in names if name.endswith(suffix) and name[0] != "."]

    def publish(self, path: str, data: bytes) -> None:
        """Write a file so that a reader sees all of it or none of it."""
        full = self._full(path)
        if not self._local:
            self._fs.pipe_file(full, data)
            return
        os.makedirs(os.path.dirname(full), exist_ok=True)
        part = f"{os.path.dirname(full)}/.{uuid.uuid4().hex}.part"
        try:
            with open(part, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(part, full)
        except BaseException:
            if os.path.exists(part):
                os.unlink(part)
            raise

    def publish_new(self, path: str, data: bytes) -> bool:
        """Write a file unless there is one; False where there is. On an object store two writers
        may both succeed and the last one wins: read it back."""
        full = self._full(path)
        if not self._local:
            if self.exists(path):
                return False
            self._fs.pipe_file(full, data)
            return True
        os.makedirs(os.path.dirname(full), exist_ok=True)
        part = f"{os.path.dirname(full)}/.{uuid.uuid4().hex}.part"
        with open(part, "wb") as file:
            file.write(data)
        try:
            os.link(part, full)
        except FileExistsError:
            return False
        finally:
            os.unlink(part)
        return True

    def remove(self, path: str) -> None:
        """Remove a file; nothing happens where it is missing."""
        if self.exists(path):
            self._fs.rm_file(self._full(path))

    def _full(self, path: str) -> str:
        return f"{self._root}/{path}"

    def __reduce__(self) -> tuple[Any, ...]:
        return Storage, (self.url,)
