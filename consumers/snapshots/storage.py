"""Where snapshots are: two objects each, of which the smaller one, written last, says that both are there."""

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import TypeVar
from urllib.parse import unquote, urlsplit

import obstore
from obstore.exceptions import BaseError
from obstore.store import LocalStore, ObjectStore

from consumers.object_store import StorageAway, away, open_store
from consumers.snapshots.manifest import BadSnapshot, Snapshot, decoded, encoded
from runtime.settings import Settings
from runtime.threads import in_thread

# The smallest part that S3 takes. Two in flight.
PART_BYTES = 5 * 1024 * 1024
PARTS_IN_FLIGHT = 2

# A request, with what the client repeats of it, takes no longer: after that the storage is away.
PATIENCE_S = 30.0

_DATA, _MANIFEST = ".mdb.zst", ".json"
_NAME = re.compile(r"[0-9]{8}T[0-9]{6}Z-[0-9a-f]{8}")  # sorted by name, they are sorted by time

T = TypeVar("T")


class SnapshotStorage:
    """Everything raises `StorageAway`, within a bounded time."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store

    @classmethod
    def open(cls, settings: Settings) -> "SnapshotStorage":
        """Connects to nothing yet; makes the folder. Raises `SettingsError`."""
        return cls(open_store(settings.snapshots, "SNAPSHOTS_URL"))

    @classmethod
    def open_existing(cls, settings: Settings) -> "SnapshotStorage | None":
        """None for a folder that is not there. Raises `SettingsError`."""
        url = urlsplit(settings.snapshots)
        if url.scheme == "file" and not Path(unquote(url.path)).is_dir():
            return None
        return cls.open(settings)

    @property
    def folder(self) -> Path | None:
        """None for a bucket."""
        return Path(self._store.prefix) if isinstance(self._store, LocalStore) and self._store.prefix else None

    async def names(self) -> list[str]:
        """Of all snapshots, the newest first."""
        return await self._named(_MANIFEST)

    async def unfinished(self) -> list[str]:
        """Names under which there are only data: somebody is writing them, or has died at it."""
        return sorted(set(await self._named(_DATA)) - set(await self._named(_MANIFEST)))

    async def manifest(self, name: str) -> Snapshot:
        """Raises `BadSnapshot`, also when it is gone."""
        try:
            content = await self._within(obstore.get_async(self._store, name + _MANIFEST))
            return decoded(name, bytes(await self._within(content.bytes_async())))
        except FileNotFoundError:
            raise BadSnapshot("it was removed meanwhile") from None

    async def blocks(self, snapshot: Snapshot) -> AsyncIterator[bytes]:
        """The compressed blocks, one after the other; a request each. Raises `BadSnapshot` when they are not there."""
        name = snapshot.name + _DATA
        try:
            found = await self._within(obstore.head_async(self._store, name))
            if found["size"] != snapshot.compressed_bytes:
                raise BadSnapshot(f"its data have {found['size']} bytes instead of {snapshot.compressed_bytes}")
            start = 0
            for size in snapshot.blocks:
                yield bytes(await self._within(obstore.get_range_async(self._store, name, start=start, length=size)))
                start += size
        except FileNotFoundError:
            raise BadSnapshot("its data are gone") from None

    async def put_data(self, name: str, blocks: Callable[[], AsyncIterator[bytes]]) -> None:
        """Raises what `blocks` raises; then nothing is stored."""
        error: list[BaseException] = []

        async def guarded() -> AsyncIterator[bytes]:
            try:
                async for block in blocks():
                    yield block
            except BaseException as raised:  # obstore would say only that there was something
                error.append(raised)
                raise

        try:
            await obstore.put_async(
                self._store, name + _DATA, guarded(), chunk_size=PART_BYTES, max_concurrency=PARTS_IN_FLIGHT
            )
        except Exception as raised:
            if error:
                raise error[0] from None
            raise away(raised) from raised

    async def put_manifest(self, snapshot: Snapshot) -> None:
        """From now on it is there."""
        await self._within(obstore.put_async(self._store, snapshot.name + _MANIFEST, encoded(snapshot)))

    async def remove(self, name: str) -> None:
        """The manifest first: what is half removed is no snapshot."""
        for end in (_MANIFEST, _DATA):
            with contextlib.suppress(FileNotFoundError):
                await self._within(obstore.delete_async(self._store, name + end))

    async def sweep(self, older_than_s: float) -> None:
        """Removes what a process that was killed has left in a folder: obstore writes to `<name>#1`, and moves that to
        its place when it is whole. S3 shows nothing of it, and has lifecycle rules for that."""
        if self.folder:
            await in_thread(_sweep, self.folder, older_than_s)

    async def _named(self, end: str) -> list[str]:
        found = await self._within(obstore.list(self._store).collect_async())
        names = (it["path"].removesuffix(end) for it in found if it["path"].endswith(end))
        return sorted((name for name in names if _NAME.fullmatch(name)), reverse=True)

    async def _within(self, request: Awaitable[T]) -> T:
        try:
            return await asyncio.wait_for(request, PATIENCE_S)
        except FileNotFoundError:
            raise
        except TimeoutError:
            raise StorageAway(f"it gave no answer for {PATIENCE_S:g} s") from None
        except (BaseError, OSError) as error:
            raise away(error) from error


def _sweep(folder: Path, older_than_s: float) -> None:
    for file in folder.glob("*#*"):
        with contextlib.suppress(FileNotFoundError):
            if _NAME.match(file.name) and file.stat().st_mtime < older_than_s:
                file.unlink()
