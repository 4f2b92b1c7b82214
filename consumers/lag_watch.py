"""Measures how far a group consumer is behind, and notices when it reads nothing although it should."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Protocol

from aiokafka import AIOKafkaConsumer, TopicPartition

from runtime.logs import logger
from runtime.metrics import LAG

WATCH_EVERY_S = 5.0
STALLED_AFTER_S = 60.0  # longer than any election or rebalance, short enough that nobody has to be called


class Stalled(ConnectionError):
    """The client makes no progress although there is something to read, and reports no error."""


class Reading(Protocol):
    """The consumer's client. `at`: where everything before is handled, or is no event."""

    @property
    def epoch(self) -> int: ...
    @property
    def at(self) -> Mapping[TopicPartition, int]: ...
    @property
    def is_reading(self) -> bool:
        """Whether it has its positions."""

    @property
    def waits_for_kafka(self) -> bool:
        """Whether it has no partitions yet, or none any more, and nothing else is to blame for it."""

    @property
    def is_working(self) -> bool:
        """Whether something is being done with what was read: that may take long."""


class LagWatch:
    """`lag` is in offsets, as it was measured last."""

    def __init__(self, kafka: AIOKafkaConsumer, reading: Reading, consumer: str, topic_prefix: str) -> None:
        self._kafka = kafka
        self._reading = reading
        self._consumer = consumer
        self._prefix = topic_prefix
        self._log = logger("consumers.lag_watch").bind(consumer=consumer)
        self.lag: dict[TopicPartition, int] = {}

    async def run(self) -> None:
        """Until it is cancelled. Raises `Stalled`."""
        loop = asyncio.get_running_loop()
        before: dict[TopicPartition, int] = {}
        moved_at = loop.time()
        while True:
            await asyncio.sleep(WATCH_EVERY_S)
            knows = await self._measured()
            waits = not knows or any(self.lag.values()) or self._reading.waits_for_kafka
            if self._reading.is_working or not waits or self._reading.at != before:
                before, moved_at = dict(self._reading.at), loop.time()
            elif loop.time() - moved_at > STALLED_AFTER_S:
                raise Stalled(
                    f"nothing was read for {STALLED_AFTER_S:g} s, although there is, or may be, something to read"
                )

    def forget(self) -> None:
        """The partitions may be somebody else's from now on."""
        for tp in self.lag:
            LAG.remove(self._consumer, tp.topic.removeprefix(self._prefix), str(tp.partition))
        self.lag.clear()

    async def _measured(self) -> bool:
        """False when Kafka doesn't tell: a partition has no leader, say. To leave the group for that would stop the
        others, too; it is as bad as a stall only when it lasts as long."""
        try:
            if self._reading.is_reading and (partitions := list(self._reading.at)):
                await self._measure(partitions)
        except Exception as error:
            self._log.warning("the lag can't be measured", error=type(error).__name__, reason=str(error))
            return False
        return True

    async def _measure(self, partitions: Sequence[TopicPartition]) -> None:
        epoch = self._reading.epoch
        ends = await self._kafka.end_offsets(partitions)
        if epoch != self._reading.epoch:
            return
        for tp in partitions:
            self.lag[tp] = max(0, ends[tp] - self._reading.at[tp])
            LAG.labels(self._consumer, tp.topic.removeprefix(self._prefix), tp.partition).set(self.lag[tp])
