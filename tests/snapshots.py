"""What tests of snapshots share: a builder that folds so much, a snapshot of what it built, a disk that is lost."""

import asyncio
import shutil
from pathlib import Path

from consumers.snapshots.manifest import Snapshot
from consumers.snapshots.storage import SnapshotStorage
from consumers.snapshots.taking import take
from runtime.clock import system_clock
from runtime.metrics import FOLDED
from runtime.settings import Settings
from state.fold import TOPICS
from tests.building import building, eventually, seen, served

EVENTS = 200


def folded() -> float:
    """Messages, in this process, so far."""
    return sum(FOLDED.labels(topic.name)._value.get() for topic in TOPICS)


async def snapshot_of(settings: Settings) -> Snapshot:
    """Of a store whose builder has been stopped."""
    stop = asyncio.Event()
    storage = SnapshotStorage.open(settings)
    return await take(storage, served(settings), settings.state_room, stop, lambda *_: None, system_clock)


async def built(settings: Settings, events: int) -> int:
    """Until the builder is past so many events. How many it has folded itself."""
    before = folded()
    async with building(settings) as builder:
        await eventually(lambda: seen(builder) == events)
    return int(folded() - before)


def lose_the_store(settings: Settings) -> None:
    shutil.rmtree(settings.state_dir)


def files_of(settings: Settings, snapshot: Snapshot | str) -> tuple[Path, Path]:
    """Manifest and data."""
    folder, name = settings.data_dir / "snapshots", snapshot if isinstance(snapshot, str) else snapshot.name
    return folder / f"{name}.json", folder / f"{name}.mdb.zst"


def bit_flipped(settings: Settings, newest: Snapshot) -> None:
    _, data = files_of(settings, newest)
    content = bytearray(data.read_bytes())
    content[len(content) // 2] ^= 1
    data.write_bytes(content)
