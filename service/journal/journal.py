"""The journal: an event that it has published is durable."""

import asyncio
import contextlib
import functools
from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from runtime.kafka import KafkaUnavailable, make_producer, start_within, stop_within
from runtime.logs import logger
from runtime.metrics import EVENTS_DROPPED, EVENTS_WAITING, KAFKA_CONNECTED
from runtime.settings import Settings, SettingsError
from runtime.topics import refuse_forgetful
from schemas.partition import partition_of
from schemas.topics import Topic
from service.journal.entry import Entry, NotDurable
from service.journal.lane import ACK_DEADLINE_S, Lane

# Prefetch events gather for this long: nobody waits for them, and a batch of fifty costs little more than one event.
RELAXED_LINGER_S = 0.05

# What may wait for an acknowledgement at once. Two seconds (the deadline) of 5,000 calls, each of a few kilobytes.
MAX_WAITING_EVENTS = 10_000
MAX_WAITING_BYTES = 128 * 1024 * 1024

# Of that, what events may fill that nobody waits for: never so much that the end of a call is refused for them.
RELAXED_SHARE = 0.5

# At the end what is in flight gets its deadline, and what waits behind it one more.
DRAIN_S = 2 * ACK_DEADLINE_S

METADATA_DEADLINE_S = 5.0  # a broker that we have just connected to answers at once, or is in trouble

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
        EVENTS_WAITING.set_function(lambda: self._waiting_events)

    @property
    def connected(self) -> bool:
        return self._producer is not None and not self._broken.is_set()

    @property
    def why_not(self) -> str:
        """Why it is not connected, for people."""
        return self._why

    async def publish(self, entry: Entry) -> None:
        """Returns when Kafka has acknowledged the event. Raises `NotDurable`."""
        if self._is_full(1.0):
            raise NotDurable("too many events wait for an acknowledgement")
        # One who goes away must not take the outcome from the others in the batch.
        await asyncio.shield(self._append(entry))

    def publish_soon(self, entry: Entry) -> None:
        """For events that nobody waits for: dropped, and counted, when Kafka is away or too many wait."""
        if not self.connected or self._is_full(RELAXED_SHARE):
            EVENTS_DROPPED.labels(entry.topic.name).inc()
            return
        self._append(entry)

    def _is_full(self, share: float) -> bool:
        return self._waiting_events >= MAX_WAITING_EVENTS * share or self._waiting_bytes >= MAX_WAITING_BYTES * share

    def _append(self, entry: Entry) -> "asyncio.Future[None]":
        if not self.connected:
            raise NotDurable(self._why)
        done = self._lane(entry.topic, entry.partition_by).append(entry.key, entry.value, entry.headers)
        self._waiting_events += 1
        self._waiting_bytes += len(entry.value or b"")
        return done

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
                    await self._connect_unless(stopping, topics)
                except SettingsError:
                    raise
                except Exception as error:
                    self._why = str(error) or repr(error)
                    expected = isinstance(error, KafkaUnavailable)
                    self._log.warning(
                        "Kafka is away", error=self._why, retry_in_s=round(retry_s, 1), exc_info=not expected
                    )
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

    async def _connect_unless(self, stopping: "asyncio.Task[Any]", topics: tuple[Topic, ...]) -> None:
        """A broker that hangs would otherwise keep us from stopping for as long as a connection may take."""
        connecting = asyncio.create_task(self._connect(topics))
        try:
            await asyncio.wait({stopping, connecting}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            connecting.cancel()  # does nothing when it is done
        with contextlib.suppress(asyncio.CancelledError):
            await connecting

    async def _connect(self, topics: tuple[Topic, ...]) -> None:
        if not self._topics_checked:
            # Once: an operator who changes a topic under a running service is told by `ringlog topics check`.
            await refuse_forgetful(self._settings, topics)
            self._topics_checked = True
        producer = make_producer(self._settings)
        await start_within(producer)
        try:
            self._partitions = await asyncio.wait_for(self._partitions_of(producer, topics), METADATA_DEADLINE_S)
        except BaseException as error:
            await stop_within(producer, 1.0)
            if isinstance(error, KafkaError | TimeoutError):
                raise KafkaUnavailable(f"Kafka does not tell of its topics: {error!r}") from error
            raise
        self._producer = producer
        self._broken = asyncio.Event()
        KAFKA_CONNECTED.set(1)
        self._log.info("connected to Kafka", partitions=self._partitions)

    async def _partitions_of(self, producer: AIOKafkaProducer, topics: tuple[Topic, ...]) -> dict[str, int]:
        """How many each topic has. Raises `KafkaUnavailable` when one is missing.

        All topics are asked for: to ask for one that is missing would make it, with settings that forget, on a cluster
        that creates topics by itself.
        """
        there = (await producer.client.fetch_all_metadata()).topics()
        names = {topic.name: topic.named(self._settings.topic_prefix) for topic in topics}
        for name in names.values():
            if name not in there:
                raise KafkaUnavailable(f"the topic {name} is not there: run `ringlog topics apply`")
        return {topic: len(await producer.partitions_for(name)) for topic, name in names.items()}

    async def _disconnect(self, gracefully: bool) -> None:
        producer, self._producer = self._producer, None
        lanes, self._lanes = self._lanes, {}
        KAFKA_CONNECTED.set(0)
        if gracefully:
            self._why = "the service stops"
            with contextlib.suppress(TimeoutError):  # what still waits then fails below
                await asyncio.wait_for(asyncio.gather(*(lane.drained() for lane in lanes.values())), DRAIN_S)
        else:
            self._log.warning("the producer is rebuilt", reason=self._why)
        for lane in lanes.values():
            lane.fail(self._why)
        if producer is not None:
            await stop_within(producer, 5.0 if gracefully else 0.5)
