"""Several that take snapshots into one place: each gives way for a while, and takes none that another one has taken."""

import asyncio
from dataclasses import dataclass, field

import pytest

from cli.snapshot_schedule import SnapshotSchedule
from consumers.snapshots.manifest import Snapshot
from consumers.snapshots.storage import SnapshotStorage
from consumers.snapshots.taking import take
from runtime.clock import system_clock
from runtime.settings import Settings
from tests.building import DEADLINE_S, send, served, some_events
from tests.snapshots import EVENTS, built, snapshot_of

pytestmark = pytest.mark.usefixtures("topics")

DAY_S = 86_400.0


async def old_one(settings: Settings) -> Snapshot:
    """As if it had been taken two days ago."""
    storage, long_ago = SnapshotStorage.open(settings), lambda: system_clock() - 2 * round(DAY_S) * 1_000_000
    return await take(storage, served(settings), settings.state_room, asyncio.Event(), lambda *_: None, long_ago)


async def names_of(settings: Settings) -> list[str]:
    return await SnapshotStorage.open(settings).names()


@dataclass
class Chance:
    """In place of chance: told between what it may choose, it chooses to wait no longer."""

    asked: list[tuple[float, float]] = field(default_factory=list)

    def uniform(self, low: float, high: float) -> float:
        self.asked.append((low, high))
        return 0.0


class Beaten(SnapshotSchedule):
    """Another one takes a snapshot while it gives way."""

    async def _give_way(self, stop: asyncio.Event) -> None:
        await super()._give_way(stop)
        await snapshot_of(self._settings)


async def taken(schedule: type[SnapshotSchedule], settings: Settings, every_s: float) -> list[Snapshot]:
    """What it takes before it waits for the next time."""
    found: list[Snapshot] = []
    stop = asyncio.Event()
    quiet = settings.model_copy(update={"host": "127.0.0.1", "ops_port": 0})
    it = schedule(quiet, every_s, lambda snapshot, _removed: found.append(snapshot))
    running = asyncio.create_task(it.run(stop))
    try:
        async with asyncio.timeout(DEADLINE_S):
            while it._health().reasons["last"] != "good":
                assert not running.done(), await running
                await asyncio.sleep(0.01)
    finally:
        stop.set()
        await running
    return found


@pytest.fixture
async def old(settings: Settings) -> str:
    await send(settings, *some_events(EVENTS, 1))
    await built(settings, EVENTS)
    return (await old_one(settings)).name


@pytest.fixture
def chance(monkeypatch: pytest.MonkeyPatch) -> Chance:
    chance = Chance()
    monkeypatch.setattr("cli.snapshot_schedule.random", chance)
    return chance


async def test_what_another_one_took_meanwhile_is_not_taken_again(settings: Settings, old: str, chance: Chance) -> None:
    assert await taken(Beaten, settings, DAY_S) == []
    assert len(await names_of(settings)) == 2


async def test_what_nobody_took_is_taken(settings: Settings, old: str, chance: Chance) -> None:
    (it,) = await taken(SnapshotSchedule, settings, DAY_S)
    assert await names_of(settings) == [it.name, old]


@pytest.mark.parametrize(("every_s", "longest_s"), [(3600.0, 360.0), (DAY_S, 600.0)])
async def test_it_gives_way_for_a_tenth_of_the_interval_and_ten_minutes_at_most(
    settings: Settings, old: str, chance: Chance, every_s: float, longest_s: float
) -> None:
    await taken(SnapshotSchedule, settings, every_s)
    assert chance.asked == [(0, longest_s)]


async def test_it_gives_way_to_nobody_when_there_is_none(settings: Settings, chance: Chance) -> None:
    await send(settings, *some_events(EVENTS, 2))
    await built(settings, EVENTS)
    assert len(await taken(SnapshotSchedule, settings, DAY_S)) == 1
    assert chance.asked == []


async def test_a_fault_that_nobody_foresaw_does_not_end_it(settings: Settings, old: str, chance: Chance) -> None:
    class Faulty(SnapshotSchedule):
        faults = 0

        async def _give_way(self, stop: asyncio.Event) -> None:
            self.faults += 1
            if self.faults == 1:
                raise ZeroDivisionError

    assert len(await taken(Faulty, settings, DAY_S)) == 1
