"""Whether the books have seen everything: their positions beside the ends of the topic."""

import asyncio

from aiokafka import TopicPartition

from cli.simulator.book_reader import BookReader
from runtime.kafka import KafkaUnavailable, make_admin, make_consumer, start_within, stop_within
from runtime.settings import Settings
from schemas.topics import CALLS_ENDED, GROUP_CONSUMERS


async def events_behind(settings: Settings, reader: BookReader) -> int | None:
    """Ended calls that a book has still to read, of the slowest book. None when Kafka can't be asked."""
    try:
        ends = await _ends(settings)
    except (KafkaUnavailable, OSError):
        return None
    said = await asyncio.to_thread(reader.positions, CALLS_ENDED.name)
    return max(
        sum(max(0, end - said.get((consumer, partition), 0)) for partition, end in ends.items())
        for consumer in GROUP_CONSUMERS
    )


async def _ends(settings: Settings) -> dict[int, int]:
    """The end offset of each partition. Raises `KafkaUnavailable`."""
    topic = CALLS_ENDED.named(settings.topic_prefix)
    admin = make_admin(settings)
    await start_within(admin)
    try:
        described = await admin.describe_topics([topic])
    finally:
        await stop_within(admin)
    partitions = [TopicPartition(topic, known["partition"]) for known in described[0]["partitions"]]
    consumer = make_consumer(settings)
    await start_within(consumer)
    try:
        ends = await consumer.end_offsets(partitions)
    finally:
        await stop_within(consumer)
    return {where.partition: end for where, end in ends.items()}
