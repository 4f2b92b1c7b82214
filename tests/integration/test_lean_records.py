"""A consumer that reads without headers reads what any other reads, from a real broker."""

import gc
from random import Random

import pytest
from aiokafka import TopicPartition
from aiokafka.consumer.fetcher import PartitionRecords

from runtime.fetched_records import LeanRecord, read_lean
from runtime.kafka import make_consumer, make_producer, start_within, stop_within
from runtime.settings import Settings
from schemas.topics import CALLS_ENDED

Found = dict[int, list[tuple[int, int, bytes | None, bytes | None]]]


@pytest.fixture
def topic(settings: Settings, topics: tuple[str, ...]) -> str:
    return CALLS_ENDED.named(settings.topic_prefix)


async def publish(settings: Settings, topic: str, count: int, dice: Random) -> None:
    producer = make_producer(settings)
    await start_within(producer)
    for _ in range(count):
        value = dice.randbytes(dice.choice((0, 100, 5000)))
        await producer.send(topic, value, dice.choice((None, b"k", b"key")), headers=[("ce_type", b"x")])
    await stop_within(producer)


async def read(settings: Settings, topic: str, *, lean: bool, at_once: int) -> tuple[Found, dict[int, int], set[type]]:
    consumer = make_consumer(settings)
    await start_within(consumer)
    if lean:
        read_lean(consumer)
    partitions = [TopicPartition(topic, number) for number in (0, 1)]
    consumer.assign(partitions)
    await consumer.seek_to_beginning(*partitions)
    ends = await consumer.end_offsets(partitions)
    found: Found = {0: [], 1: []}
    kinds: set[type] = set()
    while any([await consumer.position(one) < ends[one] for one in partitions]):
        for one, records in (await consumer.getmany(timeout_ms=200, max_records=at_once)).items():
            assert len(records) <= at_once
            found[one.partition] += [(it.offset, it.timestamp, it.key, it.value) for it in records]
            kinds |= {type(it) for it in records}
    positions = {one.partition: await consumer.position(one) for one in partitions}
    await stop_within(consumer)
    return found, positions, kinds


@pytest.mark.parametrize("at_once", [7, 10_000])
async def test_it_reads_what_any_consumer_reads(settings: Settings, topic: str, at_once: int) -> None:
    await publish(settings, topic, 500, Random(at_once))
    plain, positions, _ = await read(settings, topic, lean=False, at_once=at_once)
    found, at, kinds = await read(settings, topic, lean=True, at_once=at_once)
    assert sum(map(len, found.values())) == 500
    assert (found, at) == (plain, positions)
    assert kinds == {LeanRecord}


async def test_nothing_of_an_answer_is_left_for_the_collector(settings: Settings, topic: str) -> None:
    """While a batch is folded, nobody looks for cycles; each answer has a megabyte."""
    await publish(settings, topic, 100, Random(1))
    gc.collect()
    gc.disable()
    try:
        await read(settings, topic, lean=True, at_once=7)
        left = [it for it in gc.get_objects() if isinstance(it, PartitionRecords)]
    finally:
        gc.enable()
    assert left == []
