"""Where a client begins to read: at the positions of the database, held against what the topics have."""

import asyncio
from collections.abc import Mapping, Sequence

from aiokafka import AIOKafkaConsumer, TopicPartition
from structlog.typing import FilteringBoundLogger

from consumers import positions
from consumers.positions import Partition

# A new leader may not know at once how far its followers have come, and then reports an end that is too early.
END_TRIES = 5
END_RETRY_S = 1.0


async def starts_of(
    kafka: AIOKafkaConsumer,
    stored: Mapping[Partition, int],
    partitions: Sequence[TopicPartition],
    log: FilteringBoundLogger,
) -> dict[TopicPartition, int]:
    """The offset of each. Raises `PositionMismatch`, and Kafka's errors."""
    if not partitions:
        return {}
    earliest = await kafka.beginning_offsets(partitions)
    ends = await _ends(kafka, stored, partitions)
    return {tp: _start(tp, stored.get((tp.topic, tp.partition)), earliest[tp], ends[tp], log) for tp in partitions}


async def _ends(
    kafka: AIOKafkaConsumer, stored: Mapping[Partition, int], partitions: Sequence[TopicPartition]
) -> dict[TopicPartition, int]:
    for _ in range(END_TRIES):
        ends: dict[TopicPartition, int] = await kafka.end_offsets(partitions)
        if all(stored.get((tp.topic, tp.partition), 0) <= end for tp, end in ends.items()):
            break
        await asyncio.sleep(END_RETRY_S)
    return ends


def _start(tp: TopicPartition, stored: int | None, earliest: int, end: int, log: FilteringBoundLogger) -> int:
    start = positions.start_of((tp.topic, tp.partition), stored, earliest, end)
    if stored is not None and start > stored:
        log.error(
            "events are gone that were never read: the topic has forgotten them",
            topic=tp.topic,
            partition=tp.partition,
            position=stored,
            earliest=start,
        )
    return start
