"""A topic of the log, read from its beginning as far as its reader wants, and later on from there."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from typing import Any, Self

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from consumers.positions import Partition
from runtime.cluster import describe
from runtime.kafka import KafkaUnavailable, make_consumer, record_of, start_within, stop_within
from runtime.settings import Settings
from schemas.event import Record

BATCH_RECORDS = 2_000
POLL_S = 0.5
ASK_DEADLINE_S = 10.0  # for the offsets at which partitions begin and end

# Kafka answers a fetch within half a second, and a new leader within a dozen.
PATIENCE_S = 20.0


class LogReader:
    """An asynchronous context manager; inside it `starts`, `ends` and `at` are offsets by partition.

    Without a group: nobody's reading is disturbed. Raises `KafkaUnavailable`, also for a topic that is not there.
    """

    def __init__(self, settings: Settings, topic: str) -> None:
        self._settings = settings
        self._topic = topic
        self._kafka: AIOKafkaConsumer = None
        self._partitions: dict[Partition, TopicPartition] = {}
        self.cluster_id = ""
        self.starts: dict[Partition, int] = {}
        self.ends: dict[Partition, int] = {}
        self.at: dict[Partition, int] = {}

    async def __aenter__(self) -> Self:
        self.cluster_id, known = await describe(self._settings)
        if self._topic not in known:
            raise KafkaUnavailable(
                f"Kafka has no topic {self._topic}: is it the right Kafka, and is RINGLOG_TOPIC_PREFIX the right one?"
            )
        self._partitions = {(self._topic, number): TopicPartition(self._topic, number) for number in known[self._topic]}
        self._kafka = make_consumer(self._settings)
        await start_within(self._kafka)
        try:
            self._kafka.assign(list(self._partitions.values()))
            asked = self._kafka.beginning_offsets(list(self._partitions.values()))
            starts = await asyncio.wait_for(asked, ASK_DEADLINE_S)
            self.starts = {partition: starts[tp] for partition, tp in self._partitions.items()}
            self.at = dict(self.starts)
            await self.measure()
        except BaseException as error:
            await stop_within(self._kafka)
            raise _explained(error) from error
        return self

    async def __aexit__(self, *_: Any) -> None:
        await stop_within(self._kafka)

    async def measure(self) -> None:
        """Asks for the ends as they are now."""
        try:
            asked = self._kafka.end_offsets(list(self._partitions.values()))
            ends = await asyncio.wait_for(asked, ASK_DEADLINE_S)
        except (KafkaError, TimeoutError) as error:
            raise _explained(error) from error
        self.ends = {partition: ends[tp] for partition, tp in self._partitions.items()}

    async def offsets_at(self, time_ms: int) -> dict[Partition, int]:
        """The first event that was appended then or later, in each partition; its end where there is none."""
        asked = dict.fromkeys(self._partitions.values(), max(0, time_ms))
        try:
            found = await asyncio.wait_for(self._kafka.offsets_for_times(asked), ASK_DEADLINE_S)
        except (KafkaError, TimeoutError) as error:
            raise _explained(error) from error
        offsets = {partition: found.get(tp) for partition, tp in self._partitions.items()}
        return {partition: self.ends[partition] if at is None else int(at.offset) for partition, at in offsets.items()}

    def events_before(self, targets: Mapping[Partition, int]) -> int:
        """How many are still to be read until all partitions are there; fewer, where the topic has gaps."""
        return sum(max(0, target - self.at[partition]) for partition, target in targets.items())

    async def read(self, targets: Mapping[Partition, int]) -> AsyncIterator[list[Record]]:
        """What lies before the target of each partition and was not read before, in the order of each partition."""
        try:
            async for records in self._read(targets):
                yield records
        except (KafkaError, TimeoutError) as error:
            raise _explained(error) from error

    async def _read(self, targets: Mapping[Partition, int]) -> AsyncIterator[list[Record]]:
        loop = asyncio.get_running_loop()
        for partition, tp in self._partitions.items():
            self._kafka.seek(tp, self.at[partition])  # more was fetched, perhaps, than was wanted
        read_at = loop.time()
        while behind := [partition for partition, target in targets.items() if self.at[partition] < target]:
            wanted = [self._partitions[partition] for partition in behind]
            found = await self._kafka.getmany(*wanted, timeout_ms=int(POLL_S * 1000), max_records=BATCH_RECORDS)
            before = dict(self.at)
            for partition in behind:  # by the client's own position: markers of transactions are offsets, too
                self.at[partition] = min(
                    int(await self._kafka.position(self._partitions[partition])), targets[partition]
                )
            records = [
                record_of(message)
                for tp, messages in found.items()
                for message in messages
                if message.offset < targets[tp.topic, tp.partition]
            ]
            if records:
                yield records
            if self.at != before:
                read_at = loop.time()  # only now: what was done with them may have taken long
            elif loop.time() - read_at > PATIENCE_S:
                raise TimeoutError(f"nothing came for {PATIENCE_S:g} s")


def _explained(error: BaseException) -> BaseException:
    if isinstance(error, KafkaError | TimeoutError):
        return KafkaUnavailable(f"Kafka can't be read: {str(error) or 'it gave no answer'}")
    return error
