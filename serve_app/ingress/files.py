"""What clients upload: each file is its API key's alone. Without keys all are everybody's."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import Self

from engine.errors import (
    ImageSourceRefused,
    NotReady,
    OptionInvalid,
    OutputUnusable,
    Overloaded,
)
from engine.fields import MAX_SHOWN
from engine.wire import NO_FILES, FileId, no_such_file
from serve_app.config import ServeConfig
from serve_app.errors import FileUnknown
from serve_app.ingress.kept_schemas import FileDeleted, FileList, FileObject
from serve_app.ingress.keys import Key
from serve_app.ingress.parsing import ParsedEdit, Sent
from serve_app.ingress.upload import IMAGES, Upload
from storage.file_store import FileStore, Order, StoredFile, remove_expired
from storage.storage import Storage

logger = logging.getLogger("ray.serve")

EVERYBODY = "everybody"  # owns what is uploaded where there are no keys
OWNER_CHARACTERS = 32  # of a key's digest, which names the folder of its files
PROOF = "writable"  # written and removed at the start
MAX_UPLOADS = 4  # at a time, in one ingress: each is held in memory until it is stored
SWEEP_S = 600.0


def owner_of(key: Key) -> str:
    """Name the folder of a key's files."""
    return key.digest[:OWNER_CHARACTERS] or EVERYBODY


class Files:
    """Keeps files in a storage that all ingresses share. `clock` gives unix time in seconds."""

    def __init__(self, storage: Storage, clock: Callable[[], float] = time.time) -> None:
        self.storage, self.clock = storage, clock
        self._uploads = 0
        self._closed = threading.Event()

    @classmethod
    def of(cls, config: ServeConfig) -> Self | None:
        """Open what a config names; `None` where it names nothing. Raises `OptionInvalid`."""
        if config.files_uri is None:
            return None
        try:
            storage = Storage.open(config.files_uri)
            storage.make()
            storage.publish(PROOF, b"")  # else the first upload would find what may only be read
            storage.remove(PROOF)
        except (OutputUnusable, OSError) as error:
            raise OptionInvalid(f"files_uri: {error}", param="files_uri") from None
        return cls(storage)

    def store(self, key: Key) -> FileStore:
        """Open the files of a key."""
        return FileStore(self.storage, owner_of(key), self.clock)

    async def upload(self, key: Key, read: Callable[[], Awaitable[Upload]]) -> FileObject:
        """Keep the file that `read` brings; raises `Overloaded` beside too many others, and what
        it raises."""
        if self._uploads >= MAX_UPLOADS:
            raise Overloaded(f"{MAX_UPLOADS} files are being uploaded; try again in a moment")
        self._uploads += 1
        try:
            sent = await read()
            with storage_errors():
                file = await asyncio.to_thread(self.store(key).add, *sent)
        finally:
            self._uploads -= 1
        return file_object(file)

    def find(self, key: Key, id: str) -> StoredFile:
        """Find a file of a key; raises `FileUnknown` and `NotReady`."""
        with storage_errors():
            file = self.store(key).find(id)
        if file is None:
            raise FileUnknown(
                f'there is no file "{id[:MAX_SHOWN]}", or none of this API key: GET /v1/files '
                "lists those that there are"
            )
        return file

    def describe(self, key: Key, id: str) -> FileObject:
        """Describe a file of a key; raises as `find`."""
        return file_object(self.find(key, id))

    def page(
        self, key: Key, after: str | None, limit: int, order: Order, purpose: str | None
    ) -> FileList:
        """List the files of a key; raises `NotReady`."""
        with storage_errors():
            files, has_more = self.store(key).page(after, limit, order, purpose)
        data = [file_object(file) for file in files]
        first, last = (data[0].id, data[-1].id) if data else (None, None)
        return FileList(data=data, first_id=first, last_id=last, has_more=has_more)

    def chunks(self, key: Key, file: StoredFile) -> Iterator[bytes]:
        """Read a file part by part."""
        return self.store(key).chunks(file)

    def remove(self, key: Key, id: str) -> FileDeleted:
        """Remove a file of a key; raises `FileUnknown` and `NotReady`."""
        file = self.find(key, id)
        with storage_errors():
            self.store(key).remove(file)
        return FileDeleted(id=id)

    def start_sweeping(self) -> None:
        """Remove files whose time is over every `SWEEP_S` seconds, in a thread, until `close`."""
        threading.Thread(target=self._sweep_on, daemon=True).start()

    def close(self) -> None:
        self._closed.set()

    def _sweep_on(self) -> None:
        while not self._closed.wait(SWEEP_S):
            try:
                remove_expired(self.storage, self.clock())
            except OSError as error:
                logger.warning("expired files are not removed: %s", error)


def file_object(file: StoredFile) -> FileObject:
    """Describe a file as OpenAI does."""
    return FileObject(
        id=file.id,
        bytes=file.size_bytes,
        created_at=file.created_at,
        expires_at=file.expires_at,
        filename=file.filename,
        purpose=file.purpose,
    )


@contextmanager
def storage_errors() -> Iterator[None]:
    """Raise `NotReady` where the storage fails."""
    try:
        yield
    except OSError as error:
        logger.error("the storage of files fails: %s", error)
        raise NotReady("files cannot be reached where they are kept; try again") from error


async def with_stored(parsed: ParsedEdit, files: Files | None, key: Key) -> ParsedEdit:
    """Put the bytes of uploaded files in the place of their ids. Raises `ImageNotFound`,
    `NotReady`, and `ImageSourceRefused` where no files are kept."""
    if not any(isinstance(sent, FileId) for sent in (*parsed.images, parsed.mask)):
        return parsed
    images = [
        await _stored(sent, f"images[{number}].file_id", files, key)
        for number, sent in enumerate(parsed.images)
    ]
    mask = parsed.mask and await _stored(parsed.mask, "mask.file_id", files, key)
    return replace(parsed, images=images, mask=mask)


async def _stored(sent: Sent, field: str, files: Files | None, key: Key) -> Sent:
    if not isinstance(sent, FileId):
        return sent
    if files is None:
        raise ImageSourceRefused(f"{field}: {NO_FILES}: send image_url", param=field)
    store = files.store(key)

    def read() -> bytes | None:
        file = store.find(sent)
        if file is None or file.purpose not in IMAGES:
            return None
        with suppress(FileNotFoundError):  # removed meanwhile
            return store.read(file)
        return None

    with storage_errors():
        data = await asyncio.to_thread(read)
    if data is None:
        raise no_such_file(sent, field)
    return data
