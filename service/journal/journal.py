"""The journal: an event that it has published is durable."""

import asyncio
import functools

from aiokafka import AIOKafkaProducer

from runtime.kafka import KafkaUnavailable, make_producer, start_within, stop_within
from runtime.logs import logger
from runtime.metrics import EVENTS_DROPPED, EVENTS_WAITING, KAFKA_CONNECTED
from runtime.settings import Settings
from runtime.topics import refuse_forgetful
from schemas.partition import partition_of
from schemas.topics import Topic
from service.journal.entry import Entry, NotDurable
from service.journal.lane import Lane

# Prefetch events gather for this long: nobody waits for them, and a batch of fifty costs little more than one event.
RELAXED_LINGER_S = 0.05

# What may wait for an acknowledgement at once. Two seconds (the deadline) of 5,000 calls, each of a few kilobytes.
MAX_WAITING_EVENTS = 10_000
MAX_WAITING_BYTES = 128 * 1024 * 1024

FIRST_RETRY_S = 0.1
MAX_RETRY_S = 2.0  # a broker that is back should not wait for us

# murmur2 in Python takes some microseconds, and callers come back.
_partition = functools.lru_cache(maxsize=16_384)(partition_of)


class Journal:
    """Publishes events. `run` connects and reconnects in the background: nothing that starts the server needs Kafka.

    A producer whose acknowledgement is late, or that fails, is given up and rebuilt: what waited fails with
    `NotDurable`, and until the new one is connected every publication fails at once, so nobody waits for a deadline
    behind another one. An idempotent producer would otherwise hold on to what it could not send for ever.
    """

    def __init__(self, settings: Settings, relaxed: tuple[Topic, ...] = ()) -> None:
        self._settings = settings
        self._relaxed = frozenset(relaxed)
        self._log = logger("service.journal")
        self._producer: AIOKafkaProducer | None = None
        self._lanes: dict[tuple[str, int], Lane] = {}
        self._partitions: dict[str, int] = {}
        self._broken: asyncio.Event = asyncio.Event()
        self._why = "not connected yet"
        self._topics_checked = False
        self._waiting_events = 0
        self._waiting_bytes = 0

    @property
    def connected(self) -> bool:
        return self._producer is not None and not self._broken.is_set()

    @property
    def why_not(self) -> str:
        """Why it is not connected, for people."""
        return self._why

    async def publish(self, entry: Entry) -> None:
        """Returns when Kafka has acknowledged the event. Raises `NotDurable`."""
        if self._waiting_events >= MAX_WAITING_EVENTS or self._waiting_bytes >= MAX_WAITING_BYTES:
            raise NotDurable("too many events wait for an acknowledgement")
        await self._append(entry)

    def publish_soon(self, entry: Entry) -> None:
        """For events that nobody waits for: dropped, and counted, when Kafka is away or too many wait."""
        if self._waiting_events >= MAX_WAITING_EVENTS or not self.connected:
            EVENTS_DROPPED.labels(entry.topic.name).inc()
            return
        self._append(entry)

    def _append(self, entry: Entry) -> "asyncio.Future[None]":
        if not self.connected:
            raise NotDurable(self._why)
        lane = self._lane(entry.topic, entry.partition_by)
        self._waiting_events += 1
        self._waiting_bytes += len(entry.value or b"")
        return lane.append(entry.key, entry.value, entry.headers)

    def _lane(self, topic: Topic, partition_by: bytes) -> Lane:
        partition = _partition(partition_by, self._partitions[topic.name])
        lane = self._lanes.get((topic.name, partition))
        if lane is None:
            assert self._producer is not None  # noqa: S101 - `connected` was asked
            lane = self._lanes[topic.name, partition] = Lane(
                self._producer,
                topic.named(self._settings.topic_prefix),
                partition,
                RELAXED_LINGER_S if topic in self._relaxed else 0.0,
                self._settled,
                self._failed,
            )
        return lane

    def _settled(self, records: int, size: int) -> None:
        self._waiting_events -= records
        self._waiting_bytes -= size
        EVENTS_WAITING.set(self._waiting_events)

    def _failed(self, error: Exception) -> None:
        self._why = f"Kafka does not acknowledge ({type(error).__name__})"
        self._broken.set()

    async def run(self, topics: tuple[Topic, ...], stop: asyncio.Event) -> None:
        """Until `stop`; then what waits is given its deadline. Raises `SettingsError` when the settings can't work."""
        stopping = asyncio.create_task(stop.wait())
        retry_s = FIRST_RETRY_S
        try:
            while not stop.is_set():
                try:
                    await self._connect(topics)
                except KafkaUnavailable as error:
                    self._why = str(error)
                    self._log.warning("Kafka is away", error=self._why, retry_in_s=round(retry_s, 1))
                    await asyncio.wait({stopping}, timeout=retry_s)
                    retry_s = min(retry_s * 2, MAX_RETRY_S)
                    continue
                retry_s = FIRST_RETRY_S
                broken = asyncio.create_task(self._broken.wait())
                await asyncio.wait({stopping, broken}, return_when=asyncio.FIRST_COMPLETED)
                broken.cancel()
                await self._disconnect(gracefully=stop.is_set())
        finally:
            stopping.cancel()

    async def _connect(self, topics: tuple[Topic, ...]) -> None:
        if not self._topics_checked:
            # Once: an operator who changes a topic under a running service is told by `ringlog topics check`.
            await refuse_forgetful(self._settings, topics)
            self._topics_checked = True
        producer = make_producer(self._settings)
        await start_within(producer)
        try:
            for topic in topics:
                name = topic.named(self._settings.topic_prefix)
                self._partitions[topic.name] = len(await asyncio.wait_for(producer.partitions_for(name), 5.0))
        except Exception as error:
            await stop_within(producer, 1.0)
            raise KafkaUnavailable(f"the topic {name} is not there: run `ringlog topics apply` ({error!r})") from error
        self._producer = producer
        self._broken = asyncio.Event()
        KAFKA_CONNECTED.set(1)
        self._log.info("connected to Kafka", partitions=self._partitions)

    async def _disconnect(self, gracefully: bool) -> None:
        producer, self._producer = self._producer, None
        lanes, self._lanes = self._lanes, {}
        KAFKA_CONNECTED.set(0)
        if gracefully:
            await asyncio.gather(*(lane.drained() for lane in lanes.values()))
            self._why = "the service stops"
        else:
            self._log.warning("the producer is rebuilt", reason=self._why)
            for lane in lanes.values():
                lane.fail(NotDurable(self._why))
        if producer is not None:
            await stop_within(producer, 5.0 if gracefully else 0.5)
