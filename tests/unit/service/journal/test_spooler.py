"""The spool is opened again and again until it works, whatever went wrong the last time."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from schemas.topics import CALLS_ENDED
from service.journal.layout import DATA_FILE
from service.journal.spool import Spool, SpoolDamaged
from service.journal.spooler import Spooler
from tests.faults.small_disk import small_disk
from tests.unit.service.journal.spooled import MAX_BYTES, entry, fill, set_aside


@asynccontextmanager
async def spooler_of(directory: Path) -> AsyncIterator[Spooler]:
    spooler, stop = Spooler(directory, MAX_BYTES, lambda: None), asyncio.Event()
    task = asyncio.create_task(spooler.run(stop))
    try:
        yield spooler
    finally:
        stop.set()
        await task
        await spooler.close()


async def usable(spooler: Spooler) -> None:
    async with asyncio.timeout(20):
        while not spooler.is_usable:  # noqa: ASYNC110 - a spooler tells nobody
            await asyncio.sleep(0.01)


async def test_a_file_that_gets_damaged_right_after_its_check_is_set_aside_the_next_time(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool = Spool(directory, MAX_BYTES)
    fill(spool, [1, 2, 3])
    spool.commit(refuse=[(2, "no")])
    spool.close()
    readmit = Spool.readmit

    def damaged_before(self: Spool) -> int:
        value = entry(2).value
        assert value is not None
        content = (directory / DATA_FILE).read_bytes()
        with (directory / DATA_FILE).open("r+b") as file:  # never shorter: somebody has it open
            file.write(content.replace(value, bytes(len(value))))
        monkeypatch.setattr(Spool, "readmit", readmit)
        return readmit(self)

    monkeypatch.setattr(Spool, "readmit", damaged_before)
    async with spooler_of(directory) as spooler:
        await usable(spooler)
        assert len(set_aside(directory)) == 1
        found = await spooler.read([1, 3])
        assert found == [entry(1), entry(3)]
        assert (spooler.backlog.events, spooler.refused) == (2, 0)


async def test_a_disk_without_room_for_what_was_refused_does_not_keep_the_rest_from_being_drained() -> None:
    with small_disk(4) as disk:
        directory = disk.path / "spool"
        spool = Spool(directory, MAX_BYTES)
        fill(spool, [1], size=700_000)
        fill(spool, [2, 3])
        spool.commit(refuse=[(1, "no")])
        spool.close()
        disk.fill()
        async with spooler_of(directory) as spooler:
            await usable(spooler)
            assert (spooler.backlog.events, spooler.refused) == (2, 1)
            spooler.delete(spooler.backlog, [2, 3])
            await spooler.flushed()
            assert await spooler.read([]) == []
        disk.free()
        async with spooler_of(directory) as spooler:
            await usable(spooler)
            assert (spooler.backlog.events, spooler.refused) == (1, 0)


async def test_while_it_is_opened_anew_events_wait_and_are_taken(directory: Path) -> None:
    async with spooler_of(directory) as spooler:
        await usable(spooler)
        await spooler.append([entry(number) for number in (1, 2, 3)])
        content, value = (directory / DATA_FILE).read_bytes(), entry(2).value
        assert value is not None
        with (directory / DATA_FILE).open("r+b") as file:
            file.write(content.replace(value, bytes(len(value))))
        with pytest.raises(SpoolDamaged):
            await spooler.read([2])
        assert not spooler.is_usable
        spooler.delete(spooler.backlog, [3])  # of the one that is lost: in the new one it waits again
        await spooler.append([entry(4)])
        assert spooler.is_usable
        assert len(set_aside(directory)) == 1
        spooler.backlog.place({CALLS_ENDED.name: 1})
        waiting = spooler.backlog.first((CALLS_ENDED.name, 0), 10, MAX_BYTES)
        assert await spooler.read(waiting) == [entry(1), entry(3), entry(4)]


async def test_a_commit_that_meets_damage_is_made_in_the_new_spool(directory: Path) -> None:
    async with spooler_of(directory) as spooler:
        await usable(spooler)
        await spooler.append([entry(1)])
        content = (directory / DATA_FILE).read_bytes()
        with (directory / DATA_FILE).open("r+b") as file:
            for page in range(2 * 4096, len(content), 4096):
                if content[page + 10 : page + 12] == b"\2\0":  # it says that keys are in it
                    file.seek(page + 10)
                    file.write(b"\xfd")
        await spooler.append([entry(2)])
        assert len(set_aside(directory)) == 1
        assert spooler.backlog.events == 2
