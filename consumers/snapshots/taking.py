"""Takes a snapshot of the store that is served, beside its builder, and removes those that are too many."""

import asyncio
import hashlib
import secrets
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import BinaryIO

import cramjam
import msgspec

from consumers.snapshots.manifest import BLOCK_BYTES, MACHINE, BadSnapshot, Snapshot, unreadable_here
from consumers.snapshots.storage import SnapshotStorage
from consumers.stopping import Stopped
from runtime.clock import Clock
from runtime.threads import in_thread
from schemas.topics import DAY_MS
from state.fold import FOLD_VERSION
from state.layout import DATA_FILE, STORE_FORMAT, Damaged
from state.room import Room
from state.scratch import scratch_in
from state.view import copy_store, view_of

ZSTD_LEVEL = 3  # its own default

# Data without a manifest, for so long, are those of a process that died: no upload takes a day.
ABANDONED_AFTER_MS = DAY_MS

# Told what is done now, how far it is, and of how many.
Told = Callable[[str, int, int], None]


async def take(
    storage: SnapshotStorage, store: Path, room: Room, stop: asyncio.Event, tell: Told, clock: Clock
) -> Snapshot:
    """A copy of the store of this fold version in `store`, at one moment, checked, compressed and uploaded.

    The copy lies in `room`: an upload from the store itself would keep its builder from using freed pages again for as
    long as it takes. In memory are a few blocks. Raises `NoStore`, `Damaged`, `StorageAway`, `Stopped`, `NoRoom`, and
    `OSError` or `lmdb.Error` for a disk that got full meanwhile; then there is no new snapshot.
    """
    now_ms = clock() // 1000
    with scratch_in(room.folder) as copy:
        stores = await in_thread(_stores, room, storage.folder)
        tell("Copying the store", 0, 0)
        await in_thread(lambda: copy_store(store, copy, room, stores=stores))
        if stop.is_set():  # to look at every checksum takes a while, too
            raise Stopped
        draft = await in_thread(_described, copy, now_ms)
        upload = _Upload(copy / DATA_FILE, draft.bytes, stop, tell)
        await storage.put_data(draft.name, upload.blocks)
        done = msgspec.structs.replace(draft, sha256=upload.sha256, blocks=upload.sizes)
        await storage.put_manifest(done)
    return done


async def newest(storage: SnapshotStorage, store: Path) -> Snapshot | None:
    """Of those that could be taken of the store: of its topics, by these rules, for this kind of machine.

    Raises `NoStore`, `Damaged` and `StorageAway`.
    """
    lineage = await in_thread(_lineage, store)
    for name in await storage.names():
        try:
            it = await storage.manifest(name)
        except BadSnapshot:
            continue
        if it.lineage == lineage and unreadable_here(it) is None:
            return it
    return None


async def prune(storage: SnapshotStorage, made: Snapshot, keep: int, clock: Clock) -> list[str]:
    """Removes all but the newest `keep` of the topics and the fold version of `made`; their names.

    Those of the same topics by older rules go when there are `keep` by the new ones. Those of other topics are others'.
    Raises `StorageAway`.
    """
    ours: list[str] = []
    older: list[str] = []
    for name in await storage.names():
        try:
            it = await storage.manifest(name)
        except BadSnapshot:
            continue  # who wrote it is unknown
        if it.lineage == made.lineage and it.fold_version <= made.fold_version:
            (ours if it.fold_version == made.fold_version else older).append(name)
    removed = ours[keep:] + (older if len(ours) >= keep else [])
    old_ms = clock() // 1000 - ABANDONED_AFTER_MS
    abandoned = [name for name in await storage.unfinished() if name < name_at(old_ms)]
    for name in removed + abandoned:
        await storage.remove(name)
    await storage.sweep(old_ms / 1000)
    return removed


def name_at(time_ms: int, end: str = "") -> str:
    return time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(time_ms // 1000)) + f"-{end}"


def _stores(room: Room, uploaded_to: Path | None) -> int:
    """How many come to lie on the disk: in a folder on it the second one, of which nobody knows before how small it is
    when it is compressed."""
    if uploaded_to is None:
        return 1
    is_here = not uploaded_to.exists() or room.shares_disk_with(uploaded_to)
    return 2 if is_here else 1


def _lineage(store: Path) -> str | None:
    with view_of(store) as view:
        about = view.about()
        return None if about is None else about.lineage


def _described(copy: Path, now_ms: int) -> Snapshot:
    """All but the checksum and the blocks. Raises `Damaged`."""
    with view_of(copy) as view:
        view.check()
        about = view.about()
        if about is None:
            raise Damaged("it says nothing of where it comes from")
        return Snapshot(
            name=name_at(now_ms, secrets.token_hex(4)),
            taken_at_ms=now_ms,
            fold_version=FOLD_VERSION,
            store_format=STORE_FORMAT,
            machine=MACHINE,
            lineage=about.lineage,
            seen_at_ms=about.seen_at_ms,
            positions={f"{topic}/{number}": at for (topic, number), at in sorted(view.positions().items())},
            profiles=view.entries()["profiles"],
            bytes=(copy / DATA_FILE).stat().st_size,
            sha256="",
            blocks=[],
        )


class _Upload:
    """The file in compressed blocks, each a frame of zstd: together they are a file that `zstd -d` reads."""

    def __init__(self, file: Path, size: int, stop: asyncio.Event, tell: Told) -> None:
        self._file = file
        self._size = size
        self._stop = stop
        self._tell = tell
        self._digest = hashlib.sha256()
        self.sizes: list[int] = []

    @property
    def sha256(self) -> str:
        return self._digest.hexdigest()

    async def blocks(self) -> AsyncIterator[bytes]:
        with self._file.open("rb") as file:
            read = 0
            while (block := await in_thread(self._next, file)) is not None:
                if self._stop.is_set():
                    raise Stopped
                self.sizes.append(len(block))
                yield block
                read = min(read + BLOCK_BYTES, self._size)
                self._tell("Uploading", read, self._size)

    def _next(self, file: BinaryIO) -> bytes | None:
        block = file.read(BLOCK_BYTES)
        if not block:
            return None
        self._digest.update(block)
        return bytes(cramjam.zstd.compress(block, ZSTD_LEVEL))
