"""A batch of what has come, asked of a Kafka client in parts, so that it may end between them.

What a fetch of compressed records unfolds to is bounded by nothing: some kilobytes may become hundreds of megabytes. A
client unfolds what it is asked for, and it is asked for a number of records.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Generic, NamedTuple, Protocol, TypeVar

from aiokafka import AIOKafkaConsumer, TopicPartition

FIRST_RECORDS = 4  # of whatever size: nobody knows yet
PART_BYTES = 2 * 1024 * 1024  # a part has so many, when its records are as large as those before it


class Valued(Protocol):
    @property
    def value(self) -> bytes | None: ...


T = TypeVar("T", bound=Valued)


class Batch(NamedTuple, Generic[T]):
    """What has come, in the order of each partition, and how many bytes its values have."""

    found: dict[TopicPartition, list[T]]
    bytes: int


class Parts(Generic[T]):
    """Small parts while records are large, and twice as many records each time while they are small.

    A batch has at most `records`, and no further part is asked for when it has `bytes`. What may come on top is a part
    of records that are larger than those before it: `part_records` of the largest there are.
    """

    def __init__(self, kafka: AIOKafkaConsumer, *, records: int, bytes_: int, part_records: int) -> None:
        self._kafka = kafka
        self._records = records
        self._bytes = bytes_
        self._most_records = part_records
        self._next_records = min(FIRST_RECORDS, part_records)

    async def batch(self, partitions: Collection[TopicPartition], wait_s: float) -> Batch[T]:
        """What the partitions (none: all) have; empty after `wait_s` without. Raises Kafka's errors."""
        found: dict[TopicPartition, list[T]] = {}
        records = size = 0
        wait_ms = int(wait_s * 1000)
        while records < self._records and size < self._bytes:
            most = min(self._next_records, self._records - records)
            part: Mapping[TopicPartition, Sequence[T]]
            part = await self._kafka.getmany(*partitions, timeout_ms=wait_ms, max_records=most)
            if not part:
                break
            for tp, some in part.items():
                found.setdefault(tp, []).extend(some)
            part_records = sum(map(len, part.values()))
            part_bytes = sum(len(it.value or b"") for some in part.values() for it in some)
            records, size = records + part_records, size + part_bytes
            self._next_records = self._after(part_records, part_bytes)
            wait_ms = 0  # what is there already
        return Batch(found, size)

    def _after(self, records: int, bytes_: int) -> int:
        fitting = max(1, PART_BYTES * records // max(1, bytes_))
        return min(self._next_records * 2, fitting, self._most_records)
