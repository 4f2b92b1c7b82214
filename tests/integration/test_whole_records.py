"""A consumer that makes its records itself reads what any other reads, from a real broker."""

from random import Random
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer, TopicPartition

from runtime.fetched_records import read_whole
from runtime.kafka import connection, make_consumer, make_producer, record_of, start_within, stop_within
from runtime.settings import Settings
from schemas.event import Record
from schemas.topics import CALLS_ENDED

HEADERS = [("ce_type", b"x"), ("ce_subject", "ü".encode()), ("ce_type", b"")]


@pytest.fixture
def topic(settings: Settings, topics: tuple[str, ...]) -> str:
    return CALLS_ENDED.named(settings.topic_prefix)


async def publish(settings: Settings, topic: str, dice: Random) -> None:
    """Some in batches, some in a transaction, some in one that was broken off."""
    plain = make_producer(settings)
    within = AIOKafkaProducer(**connection(settings), transactional_id=topic)
    for producer in (plain, within):
        await start_within(producer)
    for finish in (None, within.commit_transaction, within.abort_transaction, None):
        if finish:
            await within.begin_transaction()
        for _ in range(100):
            key, value = (dice.choice((None, b"", b"k")) for _ in range(2))
            headers = HEADERS[: dice.randrange(4)]
            partition = dice.randrange(2)
            if key is value is None:
                continue
            await (within if finish else plain).send_and_wait(topic, value, key, partition, headers=headers)
        if finish:
            await finish()
    for producer in (plain, within):
        await stop_within(producer)


async def read(settings: Settings, topic: str, *, whole: bool, at_once: int) -> dict[TopicPartition, list[Any]]:
    consumer = make_consumer(settings)
    await start_within(consumer)
    if whole:
        read_whole(consumer)
    partitions = [TopicPartition(topic, number) for number in (0, 1)]
    consumer.assign(partitions)
    await consumer.seek_to_beginning(*partitions)
    ends = await consumer.end_offsets(partitions)
    found: dict[TopicPartition, list[Any]] = {tp: [] for tp in partitions}
    while any([await consumer.position(tp) < ends[tp] for tp in partitions]):
        for tp, records in (await consumer.getmany(timeout_ms=200, max_records=at_once)).items():
            found[tp] += records
    await stop_within(consumer)
    return found


@pytest.mark.parametrize("at_once", [7, 10_000])
async def test_it_reads_what_any_consumer_reads(settings: Settings, topic: str, at_once: int) -> None:
    await publish(settings, topic, Random(at_once))
    plain = await read(settings, topic, whole=False, at_once=at_once)
    whole = await read(settings, topic, whole=True, at_once=at_once)
    assert whole == {tp: [record_of(message) for message in some] for tp, some in plain.items()}
    assert 200 < sum(map(len, whole.values())) < 300
    assert {type(record) for some in whole.values() for record in some} == {Record}
