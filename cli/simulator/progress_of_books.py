"""Whether the books have seen everything: their positions beside the ends of the topic."""

import asyncio

from cli.simulator.book_reader import BookReader
from runtime.cluster import ends_of
from runtime.kafka import KafkaUnavailable
from runtime.settings import Settings
from schemas.topics import CALLS_ENDED, GROUP_CONSUMERS


async def events_behind(settings: Settings, reader: BookReader) -> int | None:
    """Ended calls that a book has still to read, of the slowest book. None when Kafka can't be asked."""
    try:
        ends = await ends_of(settings, [CALLS_ENDED])
    except (KafkaUnavailable, OSError):
        return None
    said = await asyncio.to_thread(reader.positions, CALLS_ENDED.name)
    return max(
        sum(max(0, end - said.get((consumer, partition), 0)) for (_, partition), end in ends.items())
        for consumer in GROUP_CONSUMERS
    )
