"""Images that are kept for `response_format=url`: signed addresses of this server, for a while."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import logging
import math
import secrets
import threading
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from fastapi import Request

from engine.errors import NotReady, OptionInvalid, OutputUnusable
from engine.wire import EditBody, OutputFormat
from serve_app.config import ServeConfig
from serve_app.errors import ResultNotFound, UrlInvalid
from storage.storage import Storage

logger = logging.getLogger("ray.serve")

ROUTE = "results"  # the first part of a URL's path
IMAGES = "images"  # the folder of all of them, in which each minute of expiry has one
KEY_FILE = "url.key"  # who reads it can read the images too: they lie beside it
KEY_BYTES = 32
SLOT_S = 60  # images that expire within the same minute are removed together
SWEEP_S = 60.0


@dataclass(frozen=True, slots=True)
class SignedUrl:
    """What stands in the URL of an image behind the address of the server."""

    name: str  # MINUTE/ID.FORMAT
    expires: str  # unix time in seconds
    signature: str

    @property
    def path(self) -> str:
        return f"{ROUTE}/{self.name}?expires={self.expires}&signature={self.signature}"


class Results:
    """Keeps images in a storage that all ingresses share, `lifetime_s` seconds each. `clock` gives
    unix time in seconds."""

    def __init__(
        self, storage: Storage, lifetime_s: int, clock: Callable[[], float] = time.time
    ) -> None:
        self._storage, self.lifetime_s, self._clock = storage, lifetime_s, clock
        self._key = _shared_key(storage)
        self._closed = threading.Event()

    @classmethod
    def of(cls, config: ServeConfig) -> Results | None:
        """Open what a config names; `None` where it names nothing. Raises `OptionInvalid`."""
        if config.results_uri is None:
            return None
        try:
            storage = Storage.open(config.results_uri)
            storage.make()
            return cls(storage, config.results_lifetime_s)
        except (OutputUnusable, OSError) as error:
            raise OptionInvalid(f"results_uri: {error}", param="results_uri") from None

    async def urls(self, files: Sequence[str], format: OutputFormat, base_url: str) -> list[str]:
        """Keep image files, each given in base64; returns the URL of each. Raises `NotReady`."""

        def keep_all() -> list[SignedUrl]:
            return [self.keep(base64.b64decode(file), format) for file in files]

        return [f"{base_url}/{url.path}" for url in await asyncio.to_thread(keep_all)]

    def keep(self, file: bytes, format: OutputFormat) -> SignedUrl:
        """Keep an image file; returns where it can be read. Raises `NotReady` where the storage
        fails."""
        expires = math.ceil(self._clock()) + self.lifetime_s
        name = f"{math.ceil(expires / SLOT_S) * SLOT_S}/{uuid.uuid4().hex}.{format}"
        try:
            self._storage.publish(f"{IMAGES}/{name}", file)
        except OSError as error:
            logger.error("an edited image cannot be kept: %s", error)
            raise NotReady(
                "the edited image cannot be kept for its URL; try again, or leave response_format "
                "out"
            ) from error
        return SignedUrl(name, str(expires), self._sign(name, str(expires)))

    def read(self, url: SignedUrl) -> bytes:
        """Read the image of a URL. Raises `UrlInvalid` unless this server signed it and it has not
        expired, and `ResultNotFound` and `NotReady`."""
        right = self._sign(url.name, url.expires)
        if not hmac.compare_digest(right.encode(), url.signature.encode()):
            raise UrlInvalid("this URL is not one that this server gave out: use it as it came")
        if self._clock() >= int(url.expires):
            raise UrlInvalid("this URL has expired: make the edit again, with its seed")
        try:
            return self._storage.read(f"{IMAGES}/{url.name}")
        except FileNotFoundError:
            raise ResultNotFound("the image of this URL has been removed") from None
        except OSError as error:
            logger.error("an image cannot be read: %s", error)
            raise NotReady("the image cannot be read from where it is kept; try again") from error

    def sweep(self) -> None:
        """Remove the images whose URLs have all expired."""
        for folder in self._storage.list(IMAGES):
            minute = folder.rpartition("/")[2]
            if minute.isdigit() and int(minute) <= self._clock():
                self._storage.remove_folder(folder)

    def start_sweeping(self) -> None:
        """Sweep every `SWEEP_S` seconds, in a thread of its own, until `close`."""
        threading.Thread(target=self._sweep_on, daemon=True).start()

    def close(self) -> None:
        self._closed.set()

    def _sweep_on(self) -> None:
        while not self._closed.wait(SWEEP_S):
            try:
                self.sweep()
            except OSError as error:
                logger.warning("expired images are not removed: %s", error)

    def _sign(self, name: str, expires: str) -> str:
        return hmac.new(self._key, f"{name}\n{expires}".encode(), hashlib.sha256).hexdigest()


def base_url(config: ServeConfig, request: Request, body: EditBody) -> str | None:
    """Find the address of this server for the URLs that an edit asks for; `None` where it asks for
    none. Raises `OptionInvalid` where it cannot have any."""
    if body.response_format != "url":
        return None
    if config.results_uri is None:
        raise OptionInvalid(
            "response_format: this server keeps no images, as its setting results_uri names no "
            "place for them: leave it out or send b64_json",
            param="response_format",
        )
    if body.stream:
        raise OptionInvalid(
            "response_format: a stream sends its images itself: leave it out, or send stream=false",
            param="response_format",
        )
    return (config.public_url or str(request.base_url)).rstrip("/")


def _shared_key(storage: Storage) -> bytes:
    """Read the key that signs, or make it: the same for every ingress, and after a restart."""
    storage.publish_new(KEY_FILE, secrets.token_hex(KEY_BYTES).encode())
    key = storage.read(KEY_FILE).strip()
    if len(key) < KEY_BYTES:
        raise OSError(
            f"{storage.uri(KEY_FILE)} has {len(key)} bytes, a key at least {KEY_BYTES}: remove it, "
            "and one is made"
        )
    return key
