"""A process works on several partitions at a time: each event once, and none waits for another partition's trouble."""

import asyncio
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from sqlalchemy import Connection, Engine, select, text, update

from consumers import database
from consumers.tables import positions
from runtime.kafka import make_admin, start_within, stop_within
from runtime.settings import Settings
from schemas.event import Record
from schemas.topics import BILLING_CHARGES, Topic, dead_letters
from tests import tally
from tests.tally import Counted, Tally, total
from tests.tallying import (
    TOPICS,
    create,
    grown,
    opened,
    prepare,
    publish,
    read,
    running,
    start_process,
    until,
)


class Watched(Tally):
    """Knows of which partitions it is handling records, and takes as long as it is told for each partition."""

    def __init__(self, pauses_s: Sequence[float] = (0.0, 0.0)) -> None:
        super().__init__()
        self.at_work: list[int] = []
        self.most_at_work = 0
        self._pauses_s = pauses_s

    def handle(self, tx: Connection, records: Sequence[Record]) -> None:
        partition = records[0].partition
        self.at_work.append(partition)
        self.most_at_work = max(self.most_at_work, len(self.at_work))
        try:
            super().handle(tx, records)
            time.sleep(self._pauses_s[partition])
        finally:
            self.at_work.remove(partition)


class SaysNothing(Watched):
    thread_safe = False


class Meeting(Tally):
    """Neither partition's first batch is done before that of the other has begun."""

    def __init__(self) -> None:
        super().__init__()
        self._begun = (threading.Event(), threading.Event())

    def handle(self, tx: Connection, records: Sequence[Record]) -> None:
        (partition,) = {record.partition for record in records}
        self._begun[partition].set()
        if not self._begun[1 - partition].wait(20):
            raise TimeoutError("the other partition waits for this one")
        super().handle(tx, records)


def next_offsets(engine: Engine) -> list[int]:
    with engine.connect() as tx:
        return list(tx.execute(select(positions.c.next_offset).order_by(positions.c.partition)).scalars())


async def test_partitions_are_handled_beside_each_other(on_postgres: Settings) -> None:
    await publish(on_postgres, [Counted(1)] * 20)
    consumer = Meeting()
    with opened(on_postgres) as engine:
        async with running(on_postgres, consumer, engine):
            await until(lambda: total(engine) == 20)
        assert next_offsets(engine) == [10, 10]
    assert len(consumer.handled) == 20


async def test_a_consumer_that_says_nothing_is_called_from_one_thread_at_a_time(on_postgres: Settings) -> None:
    await publish(on_postgres, [Counted(1)] * 20)
    consumer = SaysNothing((0.2, 0.2))
    with opened(on_postgres) as engine:
        async with running(on_postgres, consumer, engine):
            await until(lambda: total(engine) == 20)
            await publish(on_postgres, [Counted(1)] * 20)
            await until(lambda: total(engine) == 40)
    assert consumer.most_at_work == 1


async def test_sqlite_has_one_writer_and_one_lane(settings: Settings) -> None:
    own = await prepare(settings)
    await publish(own, [Counted(1)] * 20)
    consumer = Watched((0.2, 0.2))
    with opened(own) as engine:
        async with running(own, consumer, engine):
            await until(lambda: total(engine) == 20)
    assert consumer.most_at_work == 1


async def delete(settings: Settings, topic: Topic) -> None:
    admin = make_admin(settings)
    await start_within(admin)
    await admin.delete_topics([topic.named(settings.topic_prefix)])
    await stop_within(admin)
    await asyncio.sleep(1)  # the broker deletes in its own time


async def test_a_poison_event_holds_up_no_other_partition(settings: Settings, new_database: Callable[[], str]) -> None:
    own = settings.model_copy(update={"database_url": new_database()})
    await create(own, tuple(topic for topic in TOPICS if topic != dead_letters("tally")))
    database.migrate(own)
    with opened(own) as engine:
        tally.metadata.create_all(engine)
        async with running(own, Tally(), engine) as runner:
            await until(lambda: runner.health()[0])
            await delete(own, dead_letters("tally"))  # which the runner has made
            await publish(own, [Counted(1), Counted(0, "unreadable"), Counted(1)], partition=1)
            await until(lambda: total(engine) == 1)  # its dead letter has nowhere to go
            for n in range(1, 4):
                await publish(own, [Counted(10)] * 5, partition=0)
                await until(lambda: total(engine) == 1 + 50 * n)  # noqa: B023 - awaited here
            assert next_offsets(engine) == [15, 1]
            await create(own, (dead_letters("tally"),))
            await until(lambda: total(engine) == 152)
    assert len(await read(own, dead_letters("tally"))) == 1


async def test_a_rebalance_waits_for_every_lane(on_postgres: Settings) -> None:
    """It begins when one is done and the other is not: nothing is handled twice."""
    one, two = Watched((0.0, 4.0)), Watched()
    with opened(on_postgres) as engine:
        async with running(on_postgres, one, engine) as first:
            await until(lambda: len(first.health()[1]["partitions"]) == 2)
            await publish(on_postgres, [Counted(20)], partition=1)
            await until(lambda: one.at_work == [1])
            await publish(on_postgres, [Counted(1)] * 5, partition=0)
            await until(lambda: total(engine) == 5)
            async with running(on_postgres, two, engine) as second:
                await until(lambda: len(second.health()[1]["partitions"]) > 0)
                assert one.at_work == [], "nobody has its partitions before it is done"
                await until(lambda: [len(it.health()[1]["partitions"]) for it in (first, second)] == [1, 1])
                await until(lambda: total(engine) == 25)
    handled = one.handled + two.handled
    assert len(handled) == len(set(handled)) == 6


async def test_a_lane_that_is_fenced_costs_the_other_nothing(
    on_postgres: Settings, capfd: pytest.CaptureFixture[str]
) -> None:
    """Positions are read again when the other's transaction has ended: else it would be fenced by itself."""
    consumer = Watched((0.0, 1.0))
    with opened(on_postgres) as engine:
        async with running(on_postgres, consumer, engine):
            await publish(on_postgres, [Counted(1)] * 10)
            await until(lambda: total(engine) == 10)
            with engine.begin() as tx:  # as if another process had handled the next five of one partition
                tx.execute(update(positions).where(positions.c.partition == 0).values(next_offset=10))
            await publish(on_postgres, [Counted(1)] * 10, partition=1)
            await until(lambda: consumer.at_work == [1])
            await publish(on_postgres, [Counted(1)] * 5 + [Counted(100)], partition=0)
            await until(lambda: total(engine) == 120)
            await publish(on_postgres, [Counted(1)] * 10)
            await until(lambda: total(engine) == 130)
        assert next_offsets(engine) == [16, 20]
    assert "".join(capfd.readouterr()).count("another process has been here") == 1


async def test_a_stop_finishes_what_is_in_flight_in_every_lane(on_postgres: Settings) -> None:
    consumer = Watched((1.0, 2.0))
    await publish(on_postgres, [Counted(1)] * 20)
    with opened(on_postgres) as engine:
        async with running(on_postgres, consumer, engine):
            await until(lambda: sorted(consumer.at_work) == [0, 1])
        assert total(engine) == len(consumer.handled) == sum(next_offsets(engine))


async def test_two_lanes_that_lock_each_other_out_try_again(on_postgres: Settings) -> None:
    """A consumer that locks in no order: PostgreSQL ends one of the two, and no event is to blame."""

    class Crossing(Meeting):
        def handle(self, tx: Connection, records: Sequence[Record]) -> None:
            partition = records[0].partition
            tx.execute(text("SELECT pg_advisory_xact_lock(:n)"), {"n": partition})
            super().handle(tx, records)
            tx.execute(text("SELECT pg_advisory_xact_lock(:n)"), {"n": 1 - partition})

    await publish(on_postgres, [Counted(1)] * 10)
    consumer = Crossing()
    with opened(on_postgres) as engine:
        async with running(on_postgres, consumer, engine):
            await until(lambda: total(engine) == 10)
    assert len(consumer.handled) > 10
    assert await read(on_postgres, dead_letters("tally")) == []


@pytest.mark.timeout(240)
async def test_a_process_that_is_killed_with_two_transactions_open(on_postgres: Settings, tmp_path: Path) -> None:
    diary = tmp_path / "diary"
    diary.touch()
    with opened(on_postgres) as engine:
        for kills in range(1, 3):
            begun = diary.stat().st_size
            await publish(on_postgres, [Counted(1)] * 50)
            process = start_process(on_postgres, diary)
            try:
                await until(grown(diary, begun + 1), 60)
                await asyncio.sleep(0.3 * kills)
            finally:
                process.kill()
                process.wait()
        async with running(on_postgres, Tally(), engine):
            await until(lambda: total(engine) == 100, 60)
            await publish(on_postgres, [Counted(1)] * 2)
            await until(lambda: total(engine) == 102)
            await asyncio.sleep(1)
        assert next_offsets(engine) == [51, 51]
    ids = {dict(record.headers)["ce_id"] for record in await read(on_postgres, BILLING_CHARGES)}
    assert len(ids) == 102
