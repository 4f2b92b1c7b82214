"""Object storage: a folder by default, S3 and its like by URL."""

import asyncio
import contextlib
import hashlib
import itertools
import os
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path

import msgspec
import obstore
from obstore.exceptions import BaseError
from obstore.store import LocalStore, ObjectStore

from consumers.object_store import away, open_store
from consumers.recordings.reading import Reading
from consumers.recordings.sound import KINDS, Kind, kind_of
from runtime.settings import Settings
from runtime.threads import in_thread

# The smallest part that S3 takes is 5 MiB. Two in flight: 10 MiB of memory a download, whatever its size.
PART_BYTES = 5 * 1024 * 1024
PARTS_IN_FLIGHT = 2

# What is read back, at once: larger pieces are no faster, and each takes several times its size.
READ_BYTES = 256 * 1024

# What an upload may take to withdraw itself when it is not wanted any more: one request.
WITHDRAW_S = 2.0


class StoredSound(msgspec.Struct, frozen=True):
    """`object` is the whole name below the recordings URL; `sha256` in hex."""

    object: str
    bytes: int
    sha256: str
    content_type: str


class Storage:
    """An object is there whole or not at all, also when the process dies in the middle."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store

    @classmethod
    def open(cls, settings: Settings) -> "Storage":
        """Connects to nothing yet; makes the folder. Raises `SettingsError`."""
        return cls(open_store(settings.recordings, "RECORDINGS_URL"))

    async def find(self, stems: Sequence[str]) -> StoredSound | None:
        """What lies under the first of these names that has an object, whatever its extension, read and hashed.

        Raises `StorageAway`.
        """
        try:
            for stem in stems:
                names = [(f"{stem}.{kind.extension}", kind) for kind in KINDS]
                there = await asyncio.gather(*(self._is_there(name) for name, _ in names))
                for (name, kind), found in zip(names, there, strict=True):
                    if found:
                        await in_thread(self._sweep, name)
                        return await self._hashed(name, kind.content_type)
        except (BaseError, OSError) as error:
            raise away(error) from error
        return None

    async def holds(self, name: str) -> bool:
        """Raises `StorageAway`."""
        try:
            return await self._is_there(name)
        except (BaseError, OSError) as error:
            raise away(error) from error

    async def read(self, name: str, read: Callable[[int], None] = lambda _bytes: None) -> tuple[int, str] | None:
        """How many bytes the object has, and their sha256; None when there is no such object.

        `read` is told of each piece. Raises `StorageAway`.
        """
        try:
            sound = await self._hashed(name, "", read)
        except FileNotFoundError:
            return None
        except (BaseError, OSError) as error:
            raise away(error) from error
        return sound.bytes, sound.sha256

    async def put(self, stem: str, chunks: AsyncIterator[bytes]) -> StoredSound:
        """Stores what `chunks` gives, under an extension by its first bytes.

        Raises what `chunks` raises, or `StorageAway`; then nothing is stored.
        """
        reading = Reading(chunks)
        head = await reading.head()
        kind = kind_of(head)
        name = f"{stem}.{kind.extension}"
        await in_thread(self._sweep, name)
        try:
            await self._upload(name, kind, reading)
            if isinstance(self._store, LocalStore):
                # A thread for each: six of a pool would be what fifty downloads wait for on a slow disk.
                await in_thread(self._sync, name)
        except Exception as error:
            if reading.error is not None:
                raise reading.error from None
            if isinstance(error, BaseError | OSError):
                raise away(error) from error
            raise
        return StoredSound(name, reading.bytes, reading.sha256, kind.content_type)

    async def _upload(self, name: str, kind: Kind, reading: Reading) -> None:
        """Cancelled, it fails: merely dropped, S3 would keep its parts, unseen and paid for."""

        async def upload() -> None:
            await obstore.put_async(
                self._store,
                name,
                reading.rest(),
                attributes=None if isinstance(self._store, LocalStore) else {"Content-Type": kind.content_type},
                chunk_size=PART_BYTES,
                max_concurrency=PARTS_IN_FLIGHT,
            )

        uploading = asyncio.create_task(upload())
        try:
            await asyncio.shield(uploading)
        except asyncio.CancelledError:
            reading.stop()
            await asyncio.wait({uploading}, timeout=WITHDRAW_S)
            if not uploading.cancel():
                uploading.exception()  # it is known: nobody else is to be told
            raise

    async def _is_there(self, name: str) -> bool:
        try:
            await obstore.head_async(self._store, name)
        except FileNotFoundError:
            return False
        return True

    async def _hashed(
        self, name: str, content_type: str, read: Callable[[int], None] = lambda _bytes: None
    ) -> StoredSound:
        found = await obstore.get_async(self._store, name)
        digest, size = hashlib.sha256(), 0
        async for chunk in found.stream(min_chunk_size=READ_BYTES):
            await asyncio.to_thread(digest.update, chunk)
            size += len(chunk)
            read(len(chunk))
        return StoredSound(name, size, digest.hexdigest(), content_type)

    def _sweep(self, name: str) -> None:
        """Removes what a process that was killed has left of this object: obstore writes to `<name>#1`, and moves that
        to its place when it is whole. Nobody else writes it now: who fetches a recording has its row for himself."""
        if isinstance(self._store, LocalStore) and self._store.prefix:
            with contextlib.suppress(FileNotFoundError):
                for number in itertools.count(1):
                    Path(self._store.prefix, f"{name}#{number}").unlink()

    def _sync(self, name: str) -> None:
        """The row will say that the sound is here: it must survive a power cut, and so must the folders' entries."""
        assert isinstance(self._store, LocalStore) and self._store.prefix  # noqa: S101 - by `open`
        root = Path(self._store.prefix)
        file = root / name
        for path in (file, *file.parents[: len(Path(name).parts)]):
            descriptor = os.open(path, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
