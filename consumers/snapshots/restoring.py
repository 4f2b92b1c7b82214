"""Makes a store of the newest snapshot that is of use, for a builder that has none."""

import asyncio
import hashlib
import time
from pathlib import Path
from typing import BinaryIO

import cramjam
import lmdb

from consumers.follower import Follower
from consumers.object_store import StorageAway
from consumers.snapshots.manifest import BLOCK_BYTES, BadSnapshot, Snapshot, unreadable_here
from consumers.snapshots.storage import SnapshotStorage
from consumers.stopping import unless
from runtime.clock import Clock
from runtime.logs import logger
from runtime.settings import Settings
from runtime.threads import in_thread
from state.generations import FROM_SNAPSHOT, Generations
from state.layout import DATA_FILE, Damaged
from state.rebuild import built_from_others, missed_something
from state.scratch import scratch_in
from state.store import ProfileStore
from state.view import NoStore, view_of

log = logger("consumers.snapshots")


class Restoring:
    """Of one builder. Never raises for what is wrong with a snapshot or the storage: the topics have everything.

    Raises `SettingsError` for a wrong URL, when it is made.
    """

    def __init__(self, settings: Settings, generations: Generations, clock: Clock) -> None:
        self._storage = SnapshotStorage.open_existing(settings)
        self._settings = settings
        self._generations = generations
        self._clock = clock

    async def run(self, follower: Follower, stop: asyncio.Event) -> Path | None:
        """An unfinished generation of the newest snapshot that goes with these topics; None when there is none.

        Hold `Generations.rebuilding` for it. `follower` has been opened. Storage that is away is waited for half a
        minute a request, and then given up. Raises Kafka's errors.
        """
        storage = self._storage or SnapshotStorage.open_existing(self._settings)
        if storage is None:
            return None
        try:
            return await unless(stop, self._newest(storage, follower))
        except StorageAway as error:
            log.warning("snapshots can't be had, so the topics are read from their beginning", reason=str(error))
        except (ConnectionError, TimeoutError):  # Kafka's
            raise
        except (OSError, lmdb.Error) as error:
            log.error("a snapshot can't be restored, so the topics are read from their beginning", reason=str(error))
        return None

    async def _newest(self, storage: SnapshotStorage, follower: Follower) -> Path | None:
        for name in await storage.names():
            try:
                snapshot = await storage.manifest(name)
                await follower.confirm_ends(snapshot.offsets)
                if reason := unreadable_here(snapshot) or self._does_not_go_with(snapshot, follower):
                    raise BadSnapshot(reason)
                path = await self._restored(storage, snapshot)
            except BadSnapshot as error:
                log.warning("a snapshot is of no use, and gone past", snapshot=name, reason=str(error))
                continue
            return path
        return None

    def _does_not_go_with(self, snapshot: Snapshot, follower: Follower) -> str | None:
        about, positions, starts = snapshot.about, snapshot.offsets, follower.starts
        reason = built_from_others(about, positions, follower.lineage, starts, follower.ends)
        return reason or missed_something(about, positions, starts, self._clock() // 1000)

    async def _restored(self, storage: SnapshotStorage, snapshot: Snapshot) -> Path:
        """Raises `BadSnapshot`, `StorageAway`, `NoRoom`, and the errors of the disk and LMDB."""
        started = time.monotonic()
        log.info("a snapshot is restored", snapshot=snapshot.name, bytes=snapshot.compressed_bytes)
        with scratch_in(self._settings.state_dir) as scratch:
            # Only whether it is a download in vain. What would be built from the topics instead comes to the same size,
            # so nothing would be spared for the spool.
            self._settings.state_room.demand(f"The snapshot {snapshot.name}", snapshot.bytes, spare=False)
            folder = scratch / "store"
            folder.mkdir()
            await _download(storage, snapshot, folder / DATA_FILE)
            await in_thread(_check, folder, snapshot)
            (folder / FROM_SNAPSHOT).write_text(f"{snapshot.name}\n")
            path = self._generations.adopt(folder)  # not in a thread: nobody must remove the folder meanwhile
        log.info(
            "a snapshot was restored",
            snapshot=snapshot.name,
            generation=path.name,
            profiles=snapshot.profiles,
            seconds=round(time.monotonic() - started, 1),
        )
        return path


async def _download(storage: SnapshotStorage, snapshot: Snapshot, path: Path) -> None:
    """Raises `BadSnapshot` unless the file is, to the byte, the one that was copied."""
    digest = hashlib.sha256()
    left = snapshot.bytes

    def write(file: BinaryIO, compressed: bytes, size: int) -> None:
        block = bytearray(size)
        try:
            written = cramjam.zstd.decompress_into(compressed, block)
        except cramjam.DecompressionError as error:
            raise BadSnapshot(f"its data can't be decompressed ({error})") from None
        if written != size:
            raise BadSnapshot("its data are shorter than they were")
        digest.update(block)
        file.write(block)

    with path.open("wb") as file:
        async for compressed in storage.blocks(snapshot):
            size = min(BLOCK_BYTES, left)
            await in_thread(write, file, compressed, size)
            left -= size
    if digest.hexdigest() != snapshot.sha256:
        raise BadSnapshot("its data do not match their checksum")


def _check(folder: Path, snapshot: Snapshot) -> None:
    """That the store is what the manifest says; then it is synced. Raises `BadSnapshot`."""
    try:
        with view_of(folder) as view:
            about, positions = view.about(), view.positions()
        if about is None or about.lineage != snapshot.lineage or positions != snapshot.offsets:
            raise BadSnapshot("its store is not the one of its manifest")
        store = ProfileStore(folder)
    except (Damaged, NoStore) as error:
        raise BadSnapshot(str(error)) from error
    try:
        store.set_about(snapshot.about)
        store.sync()
    finally:
        store.close()
