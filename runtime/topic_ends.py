"""How far topics reach, for whoever asks once: it takes two connections."""

from collections.abc import Sequence

from aiokafka import TopicPartition

from runtime.kafka import make_admin, make_consumer, start_within, stop_within
from runtime.settings import Settings
from schemas.topics import Topic


async def ends_of(settings: Settings, topics: Sequence[Topic]) -> dict[tuple[str, int], int]:
    """The end offset of each partition, by the topic's name on the cluster. Raises `KafkaUnavailable`."""
    names = [topic.named(settings.topic_prefix) for topic in topics]
    admin = make_admin(settings)
    await start_within(admin)
    try:
        described = await admin.describe_topics(names)
    finally:
        await stop_within(admin)
    places = [
        TopicPartition(topic["topic"], known["partition"]) for topic in described for known in topic["partitions"]
    ]
    consumer = make_consumer(settings)
    await start_within(consumer)
    try:
        ends = await consumer.end_offsets(places)
    finally:
        await stop_within(consumer)
    return {(place.topic, place.partition): end for place, end in ends.items()}
