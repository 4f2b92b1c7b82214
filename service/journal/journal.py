"""The journal: an event that it has published is durable, in Kafka or in the spool."""

import asyncio
import contextlib
import functools
from typing import Any

from aiokafka import AIOKafkaProducer

from runtime.logs import logger
from runtime.metrics import EVENTS_DROPPED, EVENTS_FAILED, EVENTS_WAITING, LANES_OPEN
from runtime.settings import Settings
from schemas.topics import Topic
from service.journal.backlog import Place, hash_of, partition_of
from service.journal.batch import Batch
from service.journal.connection import Connection
from service.journal.disk import RETRY_S
from service.journal.drainer import Drainer
from service.journal.entry import Entry, NotDurable
from service.journal.lane import ACK_DEADLINE_S, Lane, Unacknowledged
from service.journal.spooler import Spooler

# Prefetch events gather for this long: nobody waits for them, and a batch of fifty costs little more than one event.
RELAXED_LINGER_S = 0.05

# What may wait to be durable at once. Two seconds (the deadline) of 5,000 calls, each of a few kilobytes.
MAX_WAITING_EVENTS = 10_000
MAX_WAITING_BYTES = 128 * 1024 * 1024

# Of that, and of the spool, what events may fill that nobody waits for: the end of a call is never refused for them.
RELAXED_SHARE = 0.5

# At the end what is in flight gets its deadline, and what waits behind it one more; then the spool takes it.
DRAIN_S = 2 * ACK_DEADLINE_S


class Journal:
    """Publishes events; `run` does what that needs in the background. Nothing that starts the server needs Kafka.

    An event goes to the lane of its partition, and is durable when Kafka has acknowledged it. A lane that does not
    deliver opens: its events go to the spool, and are durable when they are on the disk, until the drainer has emptied
    the spool of them and closes the lane. Each partition is by itself: a leader that is gone takes no other with it.
    """

    def __init__(self, settings: Settings, topics: tuple[Topic, ...], relaxed: tuple[Topic, ...] = ()) -> None:
        self._prefix = settings.topic_prefix
        self._max_event_bytes = settings.max_request_bytes
        self._topics = {topic.name: topic for topic in topics}
        for name in self._topics:
            EVENTS_DROPPED.labels(name)  # there from the start, so that the first one is an increase
        self._relaxed = frozenset(relaxed)
        self._log = logger("service.journal")
        self._connection = Connection(settings, topics, self)
        self._spooler = Spooler(settings.spool_dir, settings.spool_max_bytes, self._drain_backlog)
        self._drainer = Drainer(self._spooler, self._connection)
        self._producer: AIOKafkaProducer | None = None
        self._partitions: dict[str, int] = {}
        self._lanes: dict[Place, Lane] = {}
        self._drains: dict[Lane, asyncio.Task[None]] = {}
        self._stopping = False
        self._acknowledged_at = 0.0
        self._waiting_events = 0
        self._waiting_bytes = 0
        LANES_OPEN.set_function(lambda: len(self._open_lanes()))
        EVENTS_WAITING.set_function(lambda: self._waiting_events + self._spooler.waiting[0])

    @property
    def accepts(self) -> bool:
        """Whether an event can be made durable now."""
        return self._spooler.is_usable or (self._connection.is_up and not self._open_lanes())

    @property
    def is_connected(self) -> bool:
        return self._connection.is_up

    @property
    def why_not_connected(self) -> str:
        """For people."""
        return self._connection.why_not

    def reasons(self) -> dict[str, Any]:
        """For health checks: how Kafka and the spool are."""
        lanes = self._open_lanes()
        kafka = "connected" if self._connection.is_up else self._connection.why_not
        if self._connection.is_up and lanes:
            kafka = f"connected; partitions that do not acknowledge yet: {len(lanes)}"
        return {
            "kafka": kafka,
            "spool": self._spooler.why_not or "takes events",
            "spool_events": self._spooler.backlog.events,
            "spool_refused": self._spooler.refused,
        }

    async def publish(self, entry: Entry) -> None:
        """Returns when the event is durable. Raises `NotDurable`."""
        try:
            if self._is_full(1.0):
                raise NotDurable("too many events wait to be durable")
            done = self._append(entry)
        except NotDurable:
            EVENTS_FAILED.labels(entry.topic.name).inc()
            raise
        await done

    def publish_soon(self, entry: Entry) -> None:
        """For events that nobody waits for: dropped, and counted, when too many wait and nothing takes them."""
        try:
            if self._is_full(RELAXED_SHARE):
                raise NotDurable("too many events wait to be durable")
            self._append(entry)
        except NotDurable:
            EVENTS_DROPPED.labels(entry.topic.name).inc()

    async def run(self, stop: asyncio.Event) -> None:
        """Until `stop`; then what waits is given its deadline. Raises `SettingsError` when the settings can't work."""
        spool_stop = asyncio.Event()
        spooling = asyncio.create_task(self._spooler.run(spool_stop), name="spool")
        try:
            await self._connection.run(stop)
        finally:
            await self._finish()
            spool_stop.set()
            await spooling
            await self._spooler.close()

    def connected(self, producer: AIOKafkaProducer, partitions: dict[str, int]) -> None:
        self._producer = producer
        self._partitions = partitions
        self._spooler.backlog.place(partitions)
        for lane in self._lanes.values():
            lane.connect(producer)
        self._drain_backlog()

    def lost(self, reason: str) -> None:
        self._producer = None
        for lane in list(self._lanes.values()):
            lane.connect(None)
            self._open(lane, reason)

    def acknowledged(self, batch: Batch) -> None:
        self._acknowledged_at = asyncio.get_running_loop().time()
        self._release(batch)
        batch.done.set_result(None)

    def undelivered(self, lane: Lane, batches: list[Batch], reason: str) -> None:
        """The spool takes them, in their order, and all of them get their answer from it."""
        topic = self._topics[lane.topic]
        entries = [entry for batch in batches for entry in batch.entries(topic)]
        try:
            spooled = self._spooler.append(entries, self._share(topic))
        except NotDurable as error:
            EVENTS_FAILED.labels(lane.topic).inc(len(entries))
            for batch in batches:
                self._release(batch)
                batch.done.set_exception(NotDurable(f"{reason}, and {error}"))
            return
        for batch in batches:
            self._release(batch)  # the spool counts them now
            spooled.add_done_callback(functools.partial(self._spooled_batch, batch))

    def failed(self, lane: Lane, error: BaseException) -> None:
        self._log.warning(
            "events of a partition go to the spool", topic=lane.topic, partition=lane.partition, reason=str(error)
        )
        self._start_drain(lane)
        silent_s = asyncio.get_running_loop().time() - self._acknowledged_at
        # While others make progress, this one is given its time: its leader may be about to change.
        if not isinstance(error, Unacknowledged) or silent_s > ACK_DEADLINE_S:
            self._connection.rebuild(str(error) or repr(error))

    def _append(self, entry: Entry) -> "asyncio.Future[None]":
        """Raises `NotDurable` when there is nothing that takes it."""
        size = entry.size
        if size > self._max_event_bytes:
            return self._spooler.set_aside(entry, "larger than Kafka takes")
        lane = self._lane(entry)
        if lane is None or lane.is_open:
            return self._spooled(entry)
        done = lane.append(entry)
        self._waiting_events += 1
        self._waiting_bytes += size
        return done

    def _spooled(self, entry: Entry) -> "asyncio.Future[None]":
        try:
            return self._spooler.append((entry,), self._share(entry.topic))
        except NotDurable as error:
            why = "" if self._connection.is_up else f"{self._connection.why_not}, and "
            raise NotDurable(f"{why}{error}") from None

    def _lane(self, entry: Entry) -> Lane | None:
        """None before Kafka was ever reached, and when the service stops."""
        if self._stopping or (count := self._partitions.get(entry.topic.name)) is None:
            return None
        place = entry.topic.name, partition_of(hash_of(entry.partition_by), count)
        return self._lanes.get(place) or self._new_lane(entry.topic, place)

    def _new_lane(self, topic: Topic, place: Place) -> Lane:
        lane = self._lanes[place] = Lane(
            topic.name,
            topic.named(self._prefix),
            place[1],
            RELAXED_LINGER_S if topic in self._relaxed else 0.0,
            self,
        )
        lane.connect(self._producer)
        # What waits in the spool goes first, and what waits for its commit may be of this place.
        if (
            self._producer is None
            or self._spooler.backlog.count(place)
            or self._spooler.waiting[0]
            or not self._spooler.is_known
        ):
            self._open(lane, "the spool goes first")
        return lane

    def _drain_backlog(self) -> None:
        """A drain for each place where something waits, always."""
        if self._stopping:
            return
        for place in self._spooler.backlog.places:
            lane = self._lanes.get(place) or self._new_lane(self._topics[place[0]], place)
            if lane not in self._drains:
                self._open(lane, "the spool goes first")
        for lane in self._lanes.values():
            if lane.is_open:
                self._start_drain(lane)

    def _open(self, lane: Lane, reason: str) -> None:
        lane.open(reason)
        self._start_drain(lane)

    def _start_drain(self, lane: Lane) -> None:
        if lane in self._drains or self._stopping:
            return
        task = asyncio.create_task(self._drainer.drain(lane), name=f"drain {lane.topic}/{lane.partition}")
        self._drains[lane] = task
        task.add_done_callback(lambda _: self._drained(lane))

    def _drained(self, lane: Lane) -> None:
        del self._drains[lane]
        if lane.is_open:  # it was opened again in the moment after, or a mistake of ours ended its drain
            asyncio.get_running_loop().call_later(RETRY_S, self._start_drain, lane)

    def _open_lanes(self) -> list[Lane]:
        return [lane for lane in self._lanes.values() if lane.is_open]

    def _share(self, topic: Topic) -> float:
        return RELAXED_SHARE if topic in self._relaxed else 1.0

    def _is_full(self, share: float) -> bool:
        events, size = self._spooler.waiting
        return (
            self._waiting_events + events >= MAX_WAITING_EVENTS * share
            or self._waiting_bytes + size >= MAX_WAITING_BYTES * share
        )

    def _spooled_batch(self, batch: Batch, spooled: "asyncio.Future[None]") -> None:
        if (error := spooled.exception()) is None:
            batch.done.set_result(None)
        else:
            batch.done.set_exception(error)

    def _release(self, batch: Batch) -> None:
        self._waiting_events -= batch.count
        self._waiting_bytes -= batch.size

    async def _finish(self) -> None:
        """What waits gets its deadline; then the spool takes it."""
        self._stopping = True
        drains = list(self._drains.values())
        for task in drains:
            task.cancel()
        if drains:
            await asyncio.wait(drains)
        closed = [lane for lane in self._lanes.values() if not lane.is_open]
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(asyncio.gather(*(lane.drained() for lane in closed)), DRAIN_S)
        for lane in self._lanes.values():
            lane.open("the service stops")
        await self._connection.close()
