"""Processes of a consumer that are killed, or frozen and wake up: each effect once all the same."""

import asyncio
import random
import signal
from pathlib import Path

import pytest

from runtime.settings import Settings
from schemas.topics import BILLING_CHARGES
from tests.tally import Counted, Tally, total
from tests.tallying import (
    grown,
    opened,
    outbox_is_empty,
    publish,
    read,
    running,
    start_process,
    until,
)


@pytest.mark.timeout(300)
async def test_a_killed_process_neither_loses_nor_doubles(prepared: Settings, tmp_path: Path) -> None:
    """Exactly once through `kill -9` in the middle of batches, of two processes on PostgreSQL and one on SQLite."""
    count = 2 if prepared.database.startswith("postgresql") else 1
    chance = random.Random(1)
    published = 0
    diary = tmp_path / "diary"
    diary.touch()
    with opened(prepared) as engine:
        processes = [start_process(prepared, diary) for _ in range(count)]
        try:
            for _ in range(3):
                begun = diary.stat().st_size
                await publish(prepared, [Counted(1)] * 50)
                published += 50
                await until(grown(diary, begun), 60)  # a process starts, and the group waits ten seconds for a dead one
                await asyncio.sleep(chance.uniform(0.0, 0.8))
                victim = chance.randrange(count)
                processes[victim].kill()
                processes[victim].wait()
                processes[victim] = start_process(prepared, diary)
            await until(lambda: total(engine) == published, 60)
            await until(lambda: outbox_is_empty(engine), 60)
            for process in processes:
                process.send_signal(signal.SIGTERM)
            # The one that was started last may not have come so far as to hear it; then it ends as any program does.
            assert {process.wait(15) for process in processes} <= {0, -signal.SIGTERM}
        finally:
            for process in processes:
                process.kill()
        assert total(engine) == published
    ids = {dict(record.headers)["ce_id"] for record in await read(prepared, BILLING_CHARGES)}
    assert len(ids) == published


async def test_a_zombie_that_wakes_up_writes_nothing(on_postgres: Settings, tmp_path: Path) -> None:
    await publish(on_postgres, [Counted(1)] * 10)
    diary = tmp_path / "diary"
    diary.touch()
    with opened(on_postgres) as engine:
        zombie = start_process(on_postgres, diary)
        try:
            await until(lambda: total(engine) > 0)
            begun = diary.stat().st_size
            await publish(on_postgres, [Counted(1)] * 100)
            await until(grown(diary, begun))
            zombie.send_signal(signal.SIGSTOP)
            async with running(on_postgres, Tally(), engine):
                await asyncio.sleep(12)  # the group throws it out after ten; its transaction stays open
                zombie.send_signal(signal.SIGCONT)
                await until(lambda: total(engine) == 110, 40)
                await publish(on_postgres, [Counted(1)] * 10)
                await until(lambda: total(engine) == 120, 40)
                await asyncio.sleep(1)
            assert total(engine) == 120
        finally:
            zombie.kill()
            zombie.wait()
