"""A disk that is too small for a store more: nothing is copied, the spool finds its room, and callers are answered."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from consumers.profiles import ProfileBuilder
from runtime.settings import Settings
from service.journal.spool import Spool
from state.generations import FROM_SNAPSHOT, Generations
from state.layout import DATA_FILE
from state.room import NoRoom
from tests.building import building, dump_of, eventually, seen, send, served, some_events
from tests.faults.small_disk import SmallDisk, small_disk
from tests.integration.state_command import state
from tests.snapshots import built, folded, lose_the_store, snapshot_of

pytestmark = pytest.mark.usefixtures("topics")

EVENTS = 1000
DISK_MB = 24


@pytest.fixture
def disk() -> Iterator[SmallDisk]:
    with small_disk(DISK_MB) as disk:
        yield disk


@pytest.fixture
def small(settings: Settings, disk: SmallDisk) -> Settings:
    return settings.model_copy(update={"data_dir": disk.path / "data"})


def take_all_but(disk: SmallDisk, size: int) -> None:
    """Of what is free."""
    (disk.path / "filler").write_bytes(b"\0" * (disk.free_bytes - size))


def store_bytes(settings: Settings) -> int:
    return (served(settings) / DATA_FILE).stat().st_size


def stores_of(settings: Settings) -> list[str]:
    return sorted(path.name for path in settings.state_dir.glob("*") if path.is_dir())


async def test_nothing_is_copied_where_there_is_no_room_for_it(
    small: Settings, disk: SmallDisk, tmp_path: Path
) -> None:
    await send(small, *some_events(EVENTS, 1))
    await built(small, EVENTS)
    before = stores_of(small)
    take_all_but(disk, store_bytes(small) // 2)
    needed, free = f"{store_bytes(small) / 1e6:,.1f} MB", f"{disk.free_bytes / 1e6:,.1f} MB free"
    elsewhere = (tmp_path / "snapshots").as_uri()
    for command in (("dump",), ("snapshot", "--json")):
        refused = await state(small, *command, SNAPSHOTS_URL=elsewhere)
        assert (refused.code, refused.out) == (1, "")
        assert refused.said.startswith(f"A copy of the state store needs {needed}")
        assert free in refused.said and refused.said.count("\n") == 1
    verified = await state(small, "verify")
    assert (verified.code, f"needs {2 * store_bytes(small) / 1e6:,.1f} MB" in verified.said) == (1, True)
    rebuilt = await state(small, "rebuild")
    assert (rebuilt.code, rebuilt.said.startswith("A new generation beside")) == (1, True)
    assert stores_of(small) == before
    disk.free()
    for command in (("dump",), ("snapshot",), ("verify",), ("rebuild",)):
        assert (await state(small, *command, SNAPSHOTS_URL=elsewhere)).code == 0


async def test_snapshot_leaves_the_spool_its_room(small: Settings, disk: SmallDisk) -> None:
    await send(small, *some_events(EVENTS, 2))
    await built(small, EVENTS)
    Spool(small.spool_dir, 2**20).close()
    take_all_but(disk, 3 * store_bytes(small))
    assert (await snapshot_of(small.model_copy(update={"spool_max_bytes": 0}))).profiles > 0
    with pytest.raises(NoRoom, match="that the spool and the builder may need"):
        await snapshot_of(small.model_copy(update={"spool_max_bytes": 4 * store_bytes(small)}))


async def test_generation_that_answers_is_served_on_until_there_is_room_for_another(
    small: Settings, disk: SmallDisk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("consumers.profiles.REFUSED_FOR_S", 0.5)
    await send(small, *some_events(EVENTS, 3))
    await built(small, EVENTS)
    before = served(small)
    Generations(small.state_dir, version=99).swap(before.rename(before.with_name("g1-v99")))  # of a later version
    half_built = Generations(small.state_dir).begin()
    (half_built / DATA_FILE).write_bytes(b"\0" * 4096)
    take_all_but(disk, store_bytes(small) // 2)
    async with building(small) as builder:
        await eventually(lambda: "has" in builder.health().reasons["store"] and builder.health().reasons["stale"])
        assert "A new generation beside the one that is served needs" in builder.health().reasons["store"]
        assert builder.health().ready
        assert (served(small).name, half_built.exists()) == ("g1-v99", False)
        disk.free()
        await eventually(lambda: seen(builder) == EVENTS)
    assert served(small).name != "g1-v99"


async def test_builder_without_a_store_builds_one_however_small_the_disk(small: Settings, disk: SmallDisk) -> None:
    """There is nothing to keep, and nobody knows how large it will be."""
    await send(small, *some_events(EVENTS, 4))
    Spool(small.spool_dir, 2**20).close()
    assert small.spool_max_bytes > disk.free_bytes
    assert await built(small, EVENTS) == EVENTS


async def test_store_that_can_not_answer_keeps_no_other_from_being_built(small: Settings, disk: SmallDisk) -> None:
    await send(small, *some_events(EVENTS, 6))
    path = Generations(small.state_dir, version=99).begin()
    (path / DATA_FILE).write_bytes(b"\0" * (disk.free_bytes * 2 // 3))
    Generations(small.state_dir, version=99).swap(path)
    assert await built(small, EVENTS) == EVENTS


async def test_snapshot_for_which_there_is_no_room_is_not_downloaded(
    small: Settings, disk: SmallDisk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = small.model_copy(update={"snapshots_url": (tmp_path / "snapshots").as_uri()})
    await send(small, *some_events(EVENTS, 5))
    await built(small, EVENTS)
    rows, size = dump_of(small), store_bytes(small)
    await snapshot_of(small)
    lose_the_store(small)
    take_all_but(disk, size - 4096)
    refused: list[str] = []
    monkeypatch.setattr("consumers.snapshots.restoring.log.error", lambda _event, reason: refused.append(reason))
    stop, before = asyncio.Event(), folded()
    builder = ProfileBuilder(small)
    running = asyncio.create_task(builder.run(stop))
    await eventually(lambda: len(refused) > 0)
    assert refused[0].startswith("The snapshot ") and "free: make room there" in refused[0]
    assert not list(small.state_dir.glob("scratch-*"))
    disk.free()
    await eventually(lambda: seen(builder) == EVENTS)
    stop.set()
    await running
    assert folded() - before == EVENTS
    assert not (served(small) / FROM_SNAPSHOT).exists()
    assert dump_of(small) == rows
