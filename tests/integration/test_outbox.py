"""The relay against a real broker: in order, at least once, and by one process at a time."""

import asyncio
from collections.abc import Callable, Sequence

import msgspec
import pytest
from aiokafka import TopicPartition
from sqlalchemy import Engine, select

from consumers import database
from consumers import outbox as outbox_relay
from consumers.outbox import BATCH_EVENTS, OutboxEvent, OutboxRelay, post
from consumers.parcels import Message
from consumers.publisher import Publisher
from consumers.tables import outbox
from runtime.kafka import make_consumer, start_within
from runtime.metrics import OUTBOX_WAITING
from runtime.settings import Settings
from schemas.event import CHARGED
from schemas.partition import partition_of
from schemas.topics import BILLING_CHARGES
from tests.conftest import PARTITIONS

CALLER = "c0ffee"


def post_many(engine: Engine, ids: range) -> None:
    with engine.begin() as tx:
        post(tx, "billing", [event(str(id_)) for id_ in ids])


def event(id_: str) -> OutboxEvent:
    return OutboxEvent(
        topic=BILLING_CHARGES,
        caller_id=CALLER,
        event_type=CHARGED,
        event_id=id_,
        time=1,
        session_id="s",
        value=b"{}",
    )


def waiting(engine: Engine) -> int:
    with engine.connect() as tx:
        return len(tx.execute(select(outbox.c.id)).all())


async def published(settings: Settings) -> list[int]:
    """The ids, as they lie in the caller's partition."""
    tp = TopicPartition(BILLING_CHARGES.named(settings.topic_prefix), partition_of(CALLER.encode(), PARTITIONS))
    consumer = make_consumer(settings)
    await start_within(consumer)
    consumer.assign([tp])
    consumer.seek(tp, 0)
    found = []
    end = (await consumer.end_offsets([tp]))[tp]
    while await consumer.position(tp) < end:
        for records in (await consumer.getmany(tp, timeout_ms=500)).values():
            found += [int(dict(record.headers)["ce_id"]) for record in records]
    await consumer.stop()
    return found


@pytest.fixture
def migrated(settings: Settings, database_url: str, topics: tuple[str, ...]) -> Settings:
    own = settings.model_copy(update={"database_url": database_url})
    database.migrate(own)
    return own


async def test_relays_side_by_side_keep_the_order(
    settings: Settings, topics: tuple[str, ...], new_database: Callable[[], str]
) -> None:
    own = settings.model_copy(update={"database_url": new_database()})
    database.migrate(own)
    engine, stop = database.open_engine(own), asyncio.Event()
    publishers = [Publisher(own) for _ in range(3)]
    relays = [OutboxRelay(own, "billing", engine, publisher) for publisher in publishers]
    running = [asyncio.create_task(relay.run(stop)) for relay in relays]
    for start in range(0, 3000, 100):
        await asyncio.to_thread(post_many, engine, range(start, start + 100))
        for relay in relays:
            relay.wake()
    async with asyncio.timeout(30):
        while waiting(engine):  # noqa: ASYNC110 - it empties in the database
            await asyncio.sleep(0.05)
    stop.set()
    await asyncio.gather(*running, *(publisher.stop() for publisher in publishers))
    engine.dispose()
    assert await published(own) == list(range(3000))


async def test_what_was_published_and_not_deleted_goes_out_again(migrated: Settings) -> None:
    engine = database.open_engine(migrated)
    post_many(engine, range(3))
    publisher = Publisher(migrated)
    with engine.connect() as tx:
        rows = tx.execute(select(outbox)).mappings().all()
    relay = OutboxRelay(migrated, "billing", engine, publisher)
    assert await relay.relay() == (3, None)
    with engine.begin() as tx:  # as if the process had died before its commit
        tx.execute(outbox.insert(), [dict(row) for row in rows])
    assert await relay.relay() == (3, None)
    assert await relay.relay() == (0, None)
    await publisher.stop()
    engine.dispose()
    assert await published(migrated) == [0, 1, 2, 0, 1, 2]


async def test_what_commits_meanwhile_under_an_earlier_number_is_not_deleted_unread(
    settings: Settings, topics: tuple[str, ...], new_database: Callable[[], str]
) -> None:
    own = settings.model_copy(update={"database_url": new_database()})
    database.migrate(own)
    engine = database.open_engine(own)

    class Meanwhile(Publisher):
        async def publish(self, messages: Sequence[Message]) -> list[BaseException | None]:
            outcomes = await super().publish(messages)
            slow.commit()
            return outcomes

    publisher = Meanwhile(own)
    relay = OutboxRelay(own, "billing", engine, publisher)
    with engine.connect() as slow:
        post(slow, "billing", [event("0")])
        post_many(engine, range(1, 3))
        post(slow, "billing", [event("3")])
        post_many(engine, range(4, 5))
        assert await relay.relay() == (3, None)
        assert await relay.relay() == (2, None)
    assert waiting(engine) == 0
    await publisher.stop()
    engine.dispose()
    assert await published(own) == [1, 2, 4, 0, 3]


async def test_it_tells_how_many_wait(migrated: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    def told() -> float:
        return OUTBOX_WAITING.labels("billing")._value.get()

    engine, publisher = database.open_engine(migrated), Publisher(migrated)
    post_many(engine, range(3 * BATCH_EVENTS + 3))
    relay = OutboxRelay(migrated, "billing", engine, publisher)
    seen = [(await relay.relay(), told())[1]]
    monkeypatch.setattr(outbox_relay, "COUNT_EVERY_S", 0.0)
    seen += [(await relay.relay(), told())[1] for _ in range(3)]
    assert seen == [3 * BATCH_EVENTS + 3, 2 * BATCH_EVENTS + 3, 3, 0]
    await publisher.stop()
    engine.dispose()


@pytest.mark.parametrize(("bytes_", "batches"), [(2, [500, 1000, 2000, 2000, 100, 0]), (3000, [500] * 11 + [100, 0])])
async def test_a_backlog_leaves_in_larger_batches_unless_it_is_large(
    migrated: Settings, bytes_: int, batches: list[int]
) -> None:
    engine, publisher = database.open_engine(migrated), Publisher(migrated)
    with engine.begin() as tx:
        events = [msgspec.structs.replace(event(str(id_)), value=b"0" * bytes_) for id_ in range(5600)]
        post(tx, "billing", events[: sum(batches)])
    relay = OutboxRelay(migrated, "billing", engine, publisher)
    assert [await relay.relay() for _ in batches] == [(found, None) for found in batches]
    await publisher.stop()
    engine.dispose()
    assert await published(migrated) == list(range(5600))


async def test_without_kafka_everything_stays(migrated: Settings) -> None:
    away = migrated.model_copy(update={"kafka_bootstrap_servers": "127.0.0.1:1"})
    engine = database.open_engine(away)
    post_many(engine, range(3))
    publisher = Publisher(away)
    found, failure = await OutboxRelay(away, "billing", engine, publisher).relay()
    assert (found, waiting(engine)) == (3, 3)
    assert failure is not None
    await publisher.stop()
    engine.dispose()


async def test_other_consumers_events_are_left_alone(migrated: Settings) -> None:
    engine = database.open_engine(migrated)
    post_many(engine, range(3))
    publisher = Publisher(migrated)
    assert await OutboxRelay(migrated, "transcripts", engine, publisher).relay() == (0, None)
    assert waiting(engine) == 3
    await publisher.stop()
    engine.dispose()
