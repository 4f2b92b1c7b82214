"""The relay against a real broker: in order, at least once, and by one process at a time."""

import asyncio
from collections.abc import Callable, Sequence

import msgspec
import pytest
from aiokafka import TopicPartition
from sqlalchemy import Engine, select

from consumers import database
from consumers import outbox as outbox_relay
from consumers.outbox import BATCH_EVENTS, ROW_EVENTS, OutboxEvent, OutboxRelay, post
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
from tests.posted import events_in

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
    return len(events_in(engine))


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
    assert (await relay.relay(), waiting(engine)) == ((False, None), 0)
    with engine.begin() as tx:  # as if the process had died before its commit
        tx.execute(outbox.insert(), [dict(row) for row in rows])
    assert (await relay.relay(), waiting(engine)) == ((False, None), 0)
    assert await relay.relay() == (False, None)
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
        assert await relay.relay() == (False, None)
        assert [it.event_id for it in events_in(engine)] == ["0", "3"]
        assert await relay.relay() == (False, None)
    assert waiting(engine) == 0
    await publisher.stop()
    engine.dispose()
    assert await published(own) == [1, 2, 4, 0, 3]


async def test_it_tells_how_many_wait(migrated: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    def told() -> float:
        return OUTBOX_WAITING.labels("billing")._value.get()

    engine, publisher = database.open_engine(migrated), Publisher(migrated)
    for start in range(0, 3 * BATCH_EVENTS + 3, ROW_EVENTS):
        post_many(engine, range(start, min(start + ROW_EVENTS, 3 * BATCH_EVENTS + 3)))
    relay = OutboxRelay(migrated, "billing", engine, publisher)
    seen = [(await relay.relay(), told())[1]]
    monkeypatch.setattr(outbox_relay, "COUNT_EVERY_S", 0.0)
    seen += [(await relay.relay(), told())[1] for _ in range(4)]
    assert seen == [3 * BATCH_EVENTS + 3, 2 * BATCH_EVENTS + 3, BATCH_EVENTS + 3, 3, 0]
    await publisher.stop()
    engine.dispose()


@pytest.mark.parametrize(("bytes_", "left"), [(2, [600, 0]), (3000, [4553, 3506, 2459, 1412, 365, 0])])
async def test_a_batch_has_so_many_events_and_bytes(migrated: Settings, bytes_: int, left: list[int]) -> None:
    engine, publisher = database.open_engine(migrated), Publisher(migrated)
    with engine.begin() as tx:
        events = [msgspec.structs.replace(event(str(id_)), value=b"0" * bytes_) for id_ in range(5600)]
        post(tx, "billing", events)
    relay = OutboxRelay(migrated, "billing", engine, publisher)
    for after in left:
        assert await relay.relay() == (after > 0, None)
        assert waiting(engine) == after
    await publisher.stop()
    engine.dispose()
    assert await published(migrated) == list(range(5600))


async def test_of_a_row_of_which_kafka_takes_a_part_the_rest_stays_in_its_place(migrated: Settings) -> None:
    class Refusing(Publisher):
        refused: frozenset[int] = frozenset()

        async def publish(self, messages: Sequence[Message]) -> list[BaseException | None]:
            """As when the leader of one of several partitions is gone."""
            refused = [int(dict(it.headers)["ce_id"]) in self.refused for it in messages]
            taken = iter(await super().publish([it for it, no in zip(messages, refused, strict=True) if not no]))
            return [TimeoutError() if no else next(taken) for no in refused]

    engine, publisher = database.open_engine(migrated), Refusing(migrated)
    for start in (0, 4, 8):
        post_many(engine, range(start, start + 4))
    relay = OutboxRelay(migrated, "billing", engine, publisher)
    publisher.refused = frozenset((1, 3, 4, 5, 6, 7))
    more, failure = await relay.relay()
    assert (more, type(failure)) == (False, TimeoutError)
    assert [int(it.event_id) for it in events_in(engine)] == [1, 3, 4, 5, 6, 7]
    publisher.refused = frozenset()
    assert await relay.relay() == (False, None)
    assert waiting(engine) == 0
    await publisher.stop()
    engine.dispose()
    assert await published(migrated) == [0, 2, 8, 9, 10, 11, 1, 3, 4, 5, 6, 7]


async def test_without_kafka_everything_stays(migrated: Settings) -> None:
    away = migrated.model_copy(update={"kafka_bootstrap_servers": "127.0.0.1:1"})
    engine = database.open_engine(away)
    post_many(engine, range(3))
    publisher = Publisher(away)
    _, failure = await OutboxRelay(away, "billing", engine, publisher).relay()
    assert failure is not None
    assert waiting(engine) == 3
    await publisher.stop()
    engine.dispose()


async def test_other_consumers_events_are_left_alone(migrated: Settings) -> None:
    engine = database.open_engine(migrated)
    post_many(engine, range(3))
    publisher = Publisher(migrated)
    assert await OutboxRelay(migrated, "transcripts", engine, publisher).relay() == (False, None)
    assert waiting(engine) == 3
    await publisher.stop()
    engine.dispose()
