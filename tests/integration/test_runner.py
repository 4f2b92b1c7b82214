"""The runner against a real broker and real databases: each effect once, whatever happens in between."""

import asyncio
from collections.abc import Awaitable
from pathlib import Path

import msgspec
import pytest
from aiokafka import AIOKafkaProducer, TopicPartition
from sqlalchemy import select, update

from consumers import database, lag_watch
from consumers.positions import PositionMismatch
from consumers.publisher import Publisher
from consumers.reader import Polled, Reader
from consumers.runner import Runner
from consumers.tables import positions
from runtime.kafka import connection, make_admin, make_consumer, start_within, stop_within
from runtime.local_kafka import LocalKafka
from runtime.settings import Settings
from schemas.event import CHARGED, ENDED, headers_of
from schemas.topics import BILLING_CHARGES, CALLS_ENDED, dead_letters
from tests import tally
from tests.tally import Counted, Tally, total
from tests.tallying import (
    PARTITIONS,
    TOPICS,
    create,
    opened,
    outbox_is_empty,
    prepare,
    publish,
    read,
    running,
    until,
)


async def test_each_event_has_its_effect_once_and_its_derived_event(prepared: Settings) -> None:
    await publish(prepared, [Counted(n) for n in range(1, 101)])
    with opened(prepared) as engine:
        async with running(prepared, Tally(), engine):
            await until(lambda: total(engine) == 5050)
            await publish(prepared, [Counted(1)] * 10)
            await until(lambda: total(engine) == 5060)
            await until(lambda: outbox_is_empty(engine))
        with engine.connect() as tx:
            assert sorted(tx.execute(select(positions.c.partition, positions.c.next_offset))) == [
                (0, 55),
                (1, 55),
            ]
    derived = await read(prepared, BILLING_CHARGES)
    assert len(derived) == 110
    headers = dict(derived[0].headers)
    assert headers["ce_type"] == CHARGED.encode()
    assert headers["ce_subject"] == b"session"
    assert len({record.partition for record in derived}) == 1, "one caller, one partition"
    ids = [dict(record.headers)["ce_id"] for record in derived]
    assert len(set(ids)) == 110


async def test_the_groups_own_offsets_mean_nothing(on_sqlite: Settings) -> None:
    await publish(on_sqlite, [Counted(1)] * 10)
    with opened(on_sqlite) as engine:
        async with running(on_sqlite, Tally(), engine):
            await until(lambda: total(engine) == 10)
        admin = make_admin(on_sqlite)
        await start_within(admin)
        group = f"{on_sqlite.topic_prefix}ringlog.tally"
        committed = await admin.list_consumer_group_offsets(group)
        assert sum(it.offset for it in committed.values()) == 10, "told to the group, for tools"
        await stop_within(admin)

        await set_group_offsets(on_sqlite, group, 0)
        await publish(on_sqlite, [Counted(1)] * 10)
        again = Tally()
        async with running(on_sqlite, again, engine):
            await until(lambda: total(engine) == 20)
            await asyncio.sleep(1)
        assert total(engine) == 20
        assert sorted(again.handled) == [(p, offset) for p in (0, 1) for offset in range(5, 10)]


async def set_group_offsets(settings: Settings, group: str, offset: int) -> None:
    consumer = make_consumer(settings, group)
    partitions = [TopicPartition(CALLS_ENDED.named(settings.topic_prefix), n) for n in range(PARTITIONS)]
    consumer.assign(partitions)
    await start_within(consumer)
    await consumer.commit(dict.fromkeys(partitions, offset))
    await consumer.stop()


async def test_a_poison_event_goes_to_the_dead_letters_and_the_partition_goes_on(prepared: Settings) -> None:
    events = [Counted(1), Counted(0, "poison"), Counted(10), Counted(0, "unreadable"), Counted(100)]
    await publish(prepared, events, partition=1)
    consumer = Tally()
    with opened(prepared) as engine:
        async with running(prepared, consumer, engine):
            await until(lambda: total(engine) == 111)
        with engine.connect() as tx:
            assert tx.execute(select(positions.c.partition, positions.c.next_offset)).all() == [(1, 5)]
    letters = sorted(await read(prepared, dead_letters("tally")), key=lambda it: dict(it.headers)["dead_letter_offset"])
    assert [it.value for it in letters] == [msgspec.json.encode(events[1]), msgspec.json.encode(events[3])]
    assert [it.key for it in letters] == [b"c", b"c"]
    said = dict(letters[0].headers)
    assert said.pop("dead_letter_time").startswith(b"20")
    assert said.pop("dead_letter_appended_ms").startswith(b"1")
    assert said == {
        **dict(headers_of(ENDED, "event-1", 1)),
        "dead_letter_consumer": b"tally",
        "dead_letter_error": b"ZeroDivisionError",
        "dead_letter_message": b"poison for +15550100",
        "dead_letter_topic": CALLS_ENDED.named(prepared.topic_prefix).encode(),
        "dead_letter_partition": b"1",
        "dead_letter_offset": b"1",
    }
    assert dict(letters[1].headers)["dead_letter_error"] == b"UnreadableEvent"
    tries = consumer.handled.count((1, 3))
    assert tries == 2, "an unreadable event is tried in its batch, and once by itself"
    assert consumer.handled.count((1, 1)) == 4


async def test_no_log_line_quotes_an_event(on_sqlite: Settings, capfd: pytest.CaptureFixture[str]) -> None:
    await publish(on_sqlite, [Counted(0, "poison"), Counted(1)], partition=0)
    with opened(on_sqlite) as engine:
        async with running(on_sqlite, Tally(), engine):
            await until(lambda: total(engine) == 1)
    said = "".join(capfd.readouterr())
    assert "ZeroDivisionError" in said
    assert "event-0" in said
    assert "15550100" not in said


async def test_a_position_that_another_process_has_moved_fences(on_sqlite: Settings) -> None:
    await publish(on_sqlite, [Counted(1)] * 10)
    with opened(on_sqlite) as engine:
        consumer = Tally()
        async with running(on_sqlite, consumer, engine):
            await until(lambda: total(engine) == 10)
            with engine.begin() as tx:  # as if another process had handled the next five of each
                tx.execute(update(positions).values(next_offset=10))
            await publish(on_sqlite, [Counted(1)] * 10)
            await publish(on_sqlite, [Counted(100)] * 2)
            await until(lambda: total(engine) == 210)
            await asyncio.sleep(1)
        assert total(engine) == 210, "what the other process had is neither handled again nor by us"


async def test_processes_share_the_partitions_and_take_over(on_postgres: Settings) -> None:
    await publish(on_postgres, [Counted(1)] * 10)
    with opened(on_postgres) as engine:
        async with running(on_postgres, Tally(), engine) as one:
            await until(lambda: len(one.health()[1]["partitions"]) == 2)
            async with running(on_postgres, Tally(), engine) as two:
                await until(lambda: [len(it.health()[1]["partitions"]) for it in (one, two)] == [1, 1])
                await publish(on_postgres, [Counted(1)] * 100)
                await until(lambda: total(engine) == 110)
            await until(lambda: len(one.health()[1]["partitions"]) == 2)
            await publish(on_postgres, [Counted(1)] * 10)
            await until(lambda: total(engine) == 120)
            await until(lambda: outbox_is_empty(engine))
    ids = [dict(record.headers)["ce_id"] for record in await read(on_postgres, BILLING_CHARGES)]
    assert len(set(ids)) == 120


async def test_what_was_read_before_a_rebalance_is_not_handled_after_it(
    on_sqlite: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The group takes the partitions away when a poll has returned, and before its lane goes on."""
    poll = Reader.poll
    rebalanced = asyncio.Event()

    async def rebalancing(self: Reader, lane: int = 0) -> Polled:
        polled = await poll(self, lane)
        if polled.records and not rebalanced.is_set():
            rebalanced.set()
            await self.on_partitions_revoked(self._kafka.assignment())
            self.on_partitions_assigned(self._kafka.assignment())
        return polled

    monkeypatch.setattr(Reader, "poll", rebalancing)
    await publish(on_sqlite, [Counted(1)] * 10)
    consumer = Tally()
    with opened(on_sqlite) as engine:
        async with running(on_sqlite, consumer, engine) as runner:
            await until(lambda: total(engine) == 10)
            assert runner.health()[0], "by the same client"
    assert rebalanced.is_set()
    assert len(consumer.handled) == 10
    assert await read(on_sqlite, dead_letters("tally")) == []


async def test_positions_beyond_the_end_of_a_topic_stop_the_consumer(on_sqlite: Settings) -> None:
    await publish(on_sqlite, [Counted(1)] * 10)
    with opened(on_sqlite) as engine:
        async with running(on_sqlite, Tally(), engine):
            await until(lambda: total(engine) == 10)
        admin = make_admin(on_sqlite)
        await start_within(admin)
        await admin.delete_topics([CALLS_ENDED.named(on_sqlite.topic_prefix)])
        await stop_within(admin)
        await asyncio.sleep(1)  # the broker deletes in its own time
        await create(on_sqlite, (CALLS_ENDED,))
        await publish(on_sqlite, [Counted(1)] * 2)
        with pytest.raises(PositionMismatch, match=r"is 5, but the topic ends at 1: it was deleted and made anew"):
            await Runner(on_sqlite, Tally(), engine, Publisher(on_sqlite)).run(asyncio.Event())
        assert total(engine) == 10


async def test_positions_of_another_cluster_stop_the_consumer(on_sqlite: Settings) -> None:
    await publish(on_sqlite, [Counted(1)] * 2)
    with opened(on_sqlite) as engine:
        async with running(on_sqlite, Tally(), engine):
            await until(lambda: total(engine) == 2)
        with engine.begin() as tx:
            tx.execute(update(positions).values(cluster_id="another"))
        with pytest.raises(PositionMismatch, match="in the Kafka cluster another, but this is cluster"):
            await Runner(on_sqlite, Tally(), engine, Publisher(on_sqlite)).run(asyncio.Event())


async def test_a_missing_topic_is_waited_for(settings: Settings) -> None:
    database.migrate(settings)
    with opened(settings) as engine:
        tally.metadata.create_all(engine)
        async with running(settings, Tally(), engine) as runner:
            await asyncio.sleep(1)
            assert not runner.health()[0]
            await create(settings, TOPICS)
            await publish(settings, [Counted(1)] * 2)
            await until(lambda: total(engine) == 2)


async def test_a_broker_that_comes_back_is_found_again(settings: Settings, tmp_path: Path) -> None:
    with LocalKafka(tmp_path / "broker") as kafka:
        own = await prepare(settings.model_copy(update={"kafka_bootstrap_servers": kafka.bootstrap_servers}))
        await publish(own, [Counted(1)] * 10)
        with opened(own) as engine:
            async with running(own, Tally(), engine):
                await until(lambda: total(engine) == 10)
                kafka.kill()
                await asyncio.sleep(3)
                await asyncio.to_thread(kafka.start)
                await publish(own, [Counted(1)] * 10)
                await until(lambda: total(engine) == 20, 60)
                await until(lambda: outbox_is_empty(engine), 60)
            async with running(own, Tally(), engine) as runner:
                await until(lambda: runner.health()[0])
                kafka.kill()
            # `running` holds the stop to its deadline, with the broker away.


async def test_a_client_that_stalls_without_an_error_is_made_anew(
    on_sqlite: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lag_watch, "WATCH_EVERY_S", 0.2)
    monkeypatch.setattr(lag_watch, "STALLED_AFTER_S", 1.5)
    with opened(on_sqlite) as engine:
        async with running(on_sqlite, Tally(), engine) as runner:
            await until(lambda: runner.health()[0])
            stalling = runner._reader
            assert stalling is not None
            stalling._kafka.pause(*stalling._kafka.assignment())  # nobody knows
            await publish(on_sqlite, [Counted(1)] * 10)
            await until(lambda: total(engine) == 10)
            assert runner._reader is not stalling


async def test_the_mark_of_a_transaction_is_no_event_that_is_still_to_come(
    on_sqlite: Settings, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Another program's producer has written into the topic: behind its last event lies an offset without one."""
    monkeypatch.setattr(lag_watch, "WATCH_EVERY_S", 0.1)
    monkeypatch.setattr(lag_watch, "STALLED_AFTER_S", 1.5)
    await publish_in_a_transaction(on_sqlite, [Counted(1)] * 10)
    with opened(on_sqlite) as engine:
        async with running(on_sqlite, Tally(), engine) as runner:
            await until(lambda: total(engine) == 10 and runner.health()[1]["lag"] == 0)
            await asyncio.sleep(3)
            assert runner.health()[1]["lag"] == 0
            await publish_in_a_transaction(on_sqlite, [Counted(100)])
            await until(lambda: total(engine) == 110 and runner.health()[1]["lag"] == 0)
        async with running(on_sqlite, Tally(), engine) as runner:  # which begins before the marks
            await until(lambda: runner.health()[0] and runner.health()[1]["lag"] == 0)
        with engine.connect() as tx:
            assert sorted(tx.execute(select(positions.c.next_offset)).scalars()) == [5, 7]
    assert "made anew" not in "".join(capfd.readouterr()), "it has nothing to read, and doesn't stall"


async def publish_in_a_transaction(settings: Settings, events: list[Counted]) -> None:
    topic = CALLS_ENDED.named(settings.topic_prefix)
    producer = AIOKafkaProducer(**connection(settings), transactional_id=topic)
    await start_within(producer)
    async with producer.transaction():
        for n, event in enumerate(events):
            headers = headers_of(ENDED, f"event-{n}", 1)
            await producer.send_and_wait(topic, msgspec.json.encode(event), partition=n % PARTITIONS, headers=headers)
    await stop_within(producer)


async def finishes(work: Awaitable[object], within_s: float) -> None:
    async with asyncio.timeout(within_s):
        await work


async def test_a_stop_with_kafka_and_the_database_away_is_a_stop(settings: Settings, tmp_path: Path) -> None:
    own = settings.model_copy(
        update={
            "kafka_bootstrap_servers": "127.0.0.1:1",
            "database_url": "postgresql://nobody@127.0.0.1:1/nothing",
        }
    )
    with opened(own) as engine:
        stop = asyncio.Event()
        publisher = Publisher(own)
        runner = asyncio.create_task(Runner(own, Tally(), engine, publisher).run(stop))
        await asyncio.sleep(1.5)
        stop.set()
        await finishes(runner, 10)
        await finishes(publisher.stop(), 10)
        assert runner.exception() is None
