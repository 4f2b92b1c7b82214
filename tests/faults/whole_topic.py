"""A topic as it lies on the broker, from its first record to its end."""

from aiokafka import AIOKafkaConsumer, TopicPartition

from runtime.kafka import make_consumer, record_of, start_within, stop_within
from runtime.settings import Settings
from schemas.event import Record
from schemas.topics import Topic


async def ends_of(settings: Settings, topic: Topic) -> dict[int, int]:
    """Partition -> the offset of the next record."""
    consumer = make_consumer(settings)
    await start_within(consumer)
    try:
        return {tp.partition: end for tp, end in (await _ends(consumer, settings, topic)).items()}
    finally:
        await stop_within(consumer)


async def whole_topic(settings: Settings, topic: Topic) -> list[Record]:
    """Every record, those of one partition in their order."""
    consumer = make_consumer(settings)
    await start_within(consumer)
    try:
        ends = await _ends(consumer, settings, topic)
        consumer.assign(list(ends))
        found = []
        for tp, end in ends.items():
            consumer.seek(tp, 0)
            while await consumer.position(tp) < end:
                for messages in (await consumer.getmany(tp, timeout_ms=500)).values():
                    found += [record_of(message) for message in messages]
        return found
    finally:
        await stop_within(consumer)


async def _ends(consumer: AIOKafkaConsumer, settings: Settings, topic: Topic) -> dict[TopicPartition, int]:
    assert settings.topic_partitions is not None
    name = topic.named(settings.topic_prefix)
    partitions = [TopicPartition(name, number) for number in range(settings.topic_partitions)]
    ends: dict[TopicPartition, int] = await consumer.end_offsets(partitions)
    return ends
