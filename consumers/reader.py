"""One life of a group consumer's client: it joins, reads from the positions in the database, and is closed."""

import asyncio
import contextlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import NamedTuple

from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, TopicPartition
from aiokafka.errors import NoOffsetForPartitionError
from sqlalchemy import Engine

from consumers import positions
from consumers.contract import Consumer
from consumers.database import read_only
from consumers.effects import BATCH_BYTES
from consumers.lag_watch import LagWatch
from consumers.parts import Batch, Parts
from consumers.positions import Move
from consumers.progress import Abandoned
from consumers.starting import starts_of
from consumers.stopping import CANCEL_S, cancelled
from runtime.fetched_records import read_whole
from runtime.kafka import KafkaUnavailable, make_admin, make_consumer, start_within, stop_within
from runtime.logs import logger
from runtime.settings import Settings
from runtime.threads import in_thread
from schemas.event import Record

BATCH_RECORDS = 500

# Asked for at a time. Of 8 MiB each, the largest there are, they have 128 MiB: what may come on top of `BATCH_BYTES`,
# when records are larger than those before them. To ask so often takes half a microsecond an event.
PART_RECORDS = 16

POLL_S = 0.5  # how long a stop may go unnoticed

# By aiokafka's clock a consumer that waits for its database is dead after five minutes. Ours is the watchdog.
LONGEST_BATCH_MS = 24 * 60 * 60 * 1000

# How long a rebalance waits for the batch in flight. Longer, and the group would throw us out; whatever is still
# running then is fenced by the positions.
REVOKE_GRACE_S = 5.0

TELL_S = 5.0


class Polled(NamedTuple):
    """In another epoch than that one the records are void."""

    records: Sequence[Record]
    epoch: int


class Reader(ConsumerRebalanceListener):  # type: ignore[misc]
    """`epoch` changes whenever the partitions may have changed: what was read in an earlier one is void.

    Its partitions are dealt to `lanes`: each polls its own, and what it has read is handled beside that of the others.
    Positions are taken when nothing is on its way in any lane: neither a transaction, which could move them, nor a
    poll, which could take away what is to be read from them.
    """

    def __init__(self, settings: Settings, consumer: Consumer, engine: Engine, lanes: int = 1) -> None:
        self._settings = settings
        self._name = consumer.name
        self._topics = [topic.named(settings.topic_prefix) for topic in consumer.topics]
        self._engine = read_only(engine)
        self._group = f"{settings.topic_prefix}ringlog.{consumer.name}"
        self._kafka: AIOKafkaConsumer = make_consumer(settings, self._group, max_poll_interval_ms=LONGEST_BATCH_MS)
        self._log = logger("consumers.reader").bind(consumer=consumer.name)
        self._assigned = False
        self._positioned = False
        self._stored: dict[TopicPartition, int | None] = {}  # what the database says; None: nothing yet
        self._at: dict[TopicPartition, int] = {}
        self._lanes: list[list[TopicPartition]] = [[] for _ in range(lanes)]
        self._parts = [self._parts_of_a_lane() for _ in range(lanes)]
        self._polling: dict[int, asyncio.Task[Batch[Record]]] = {}  # by lane
        self._taking = asyncio.Lock()
        self._lag = LagWatch(self._kafka, self, consumer.name, settings.topic_prefix)
        self._watching: asyncio.Task[None] | None = None
        self._telling: asyncio.Task[None] | None = None
        self._idle = asyncio.Event()
        self._idle.set()
        self._committing = 0  # lanes
        self._working = 0
        self.epoch = 0
        self.cluster_id = ""

    @property
    def partitions(self) -> list[str]:
        """What this process reads, for people. Empty while it waits for its share."""
        return sorted(f"{tp.topic}/{tp.partition}" for tp in self._at) if self._positioned else []

    @property
    def is_reading(self) -> bool:
        """Whether it knows its partitions (which may be none: another process has them) and its positions."""
        return self._positioned

    @property
    def at(self) -> Mapping[TopicPartition, int]:
        """Where everything before is handled, or is no event: a mark of a transaction has an offset, too."""
        return self._at

    @property
    def lag(self) -> int:
        """In offsets, over all partitions, as it was measured last."""
        return sum(self._lag.lag.values())

    @property
    def waits_for_kafka(self) -> bool:
        return not self._assigned

    @property
    def is_working(self) -> bool:
        return self._working > 0

    async def open(self) -> None:
        """Raises `KafkaUnavailable`, also for topics that are not there."""
        self.cluster_id = await _cluster_id(self._settings)
        await start_within(self._kafka)
        read_whole(self._kafka)
        missing = set(self._topics) - await self._kafka.topics()
        if missing:
            raise KafkaUnavailable(f"there is no topic {', '.join(sorted(missing))}: run `ringlog topics apply`")
        self._kafka.subscribe(self._topics, listener=self)
        self._watching = asyncio.create_task(self._lag.run(), name=f"watch {self._name}")

    async def close(self) -> None:
        """Leaves the group. Never raises, never takes longer than its deadlines."""
        if self._telling is not None:
            await asyncio.wait({self._telling}, timeout=CANCEL_S)
        await cancelled(task for task in (*self._polling.values(), self._watching, self._telling) if task is not None)
        await stop_within(self._kafka)
        self._forget()

    async def poll(self, lane: int = 0) -> Polled:
        """What has arrived for the lane; empty after half a second without. In the order of each partition.

        Raises Kafka's errors and `Stalled`: close, and open another reader. Raises the database's: try again.
        Raises `PositionMismatch`: stop.
        """
        if self._watching is not None and self._watching.done():
            self._watching.result()
        if self._assigned and not self._positioned:
            await self._take_positions()
        if lane and not self._lanes[lane]:  # the first one polls nevertheless: Kafka's errors come to whoever polls
            await asyncio.sleep(POLL_S)
            return self._nothing
        polled = self._polling.get(lane) or self._begin_poll(lane)
        # Without limit while the group rebalances; but cancelled, it would lose what it has taken.
        await asyncio.wait({polled}, timeout=POLL_S * 2)
        if not polled.done() or self._polling.get(lane) is not polled:  # or dropped, when positions were taken
            return self._nothing
        del self._polling[lane]
        if polled.cancelled():  # by another lane that takes positions
            return self._nothing
        try:
            batch = polled.result()
        except NoOffsetForPartitionError:  # the group has none, and ours were not set before it asked
            self._void()
            return self._nothing
        if not self._positioned:  # some of it may be from before, and some from after what has changed
            return self._nothing
        await self._pass_marks(lane, batch.found)
        # The next one is taken apart while this one waits for the database, but beside a large one it has no place.
        if batch.found and batch.bytes < BATCH_BYTES:
            self._begin_poll(lane)
        at = self._at
        found = [record for tp, some in batch.found.items() for record in some if record.offset >= at[tp]]
        return Polled(found, self.epoch)

    def moves(self, records: Sequence[Record]) -> list[Move]:
        """How handling the records moves the positions. Raises `Abandoned` for a partition that is somebody else's."""
        last = {TopicPartition(record.topic, record.partition): record.offset for record in records}
        if not last.keys() <= self._stored.keys():
            raise Abandoned
        return [Move(tp.topic, tp.partition, self._stored[tp], offset + 1) for tp, offset in last.items()]

    def moved(self, moves: Sequence[Move]) -> None:
        """They are committed in the database. The group is told too, for tools that show lag; nothing relies on it."""
        for move in moves:
            tp = TopicPartition(move.topic, move.partition)
            self._stored[tp] = self._at[tp] = move.next
        if self._telling is None or self._telling.done():
            self._telling = asyncio.create_task(self._tell_group())

    def reposition(self, epoch: int) -> None:
        """What was read in that epoch and not handled comes again, from where the database says."""
        if epoch == self.epoch:  # else it does so already, and whatever has been read since then is sound
            self._void()

    @contextlib.contextmanager
    def committing(self) -> Iterator[None]:
        """A rebalance waits for what is done inside."""
        self._committing += 1
        self._idle.clear()
        try:
            yield
        finally:
            self._committing -= 1
            if not self._committing:
                self._idle.set()

    @contextlib.contextmanager
    def working(self) -> Iterator[None]:
        """What is done inside may take long, without Kafka being to blame for it."""
        self._working += 1
        try:
            yield
        finally:
            self._working -= 1

    async def on_partitions_revoked(self, _revoked: Collection[TopicPartition]) -> None:
        self._void()
        self._assigned = False
        with contextlib.suppress(TimeoutError):  # see REVOKE_GRACE_S
            await asyncio.wait_for(self._idle.wait(), REVOKE_GRACE_S)
        self._forget()

    def on_partitions_assigned(self, assigned: Collection[TopicPartition]) -> None:
        # Nothing may be read before the positions are known, and the group waits here: they are taken by `poll`.
        self._kafka.pause(*assigned)
        self._void()
        self._forget()
        self._assigned = True

    @property
    def _nothing(self) -> Polled:
        return Polled([], self.epoch)

    def _void(self) -> None:
        self.epoch += 1
        self._positioned = False

    def _forget(self) -> None:
        self._lag.forget()
        self._positioned = False
        for lane in self._lanes:
            lane.clear()
        self._stored.clear()
        self._at.clear()

    async def _pass_marks(self, lane: int, found: Collection[TopicPartition]) -> None:
        """What was read of the others is handled, and the client has gone on to what comes next."""
        for tp in self._lanes[lane]:
            if tp not in found:
                self._at[tp] = await self._kafka.position(tp)  # at once: it was sought

    def _parts_of_a_lane(self) -> Parts[Record]:
        return Parts(self._kafka, records=BATCH_RECORDS, bytes_=BATCH_BYTES, part_records=PART_RECORDS)

    def _begin_poll(self, lane: int) -> asyncio.Task[Batch[Record]]:
        polling = self._parts[lane].batch(tuple(self._lanes[lane]), POLL_S)
        self._polling[lane] = asyncio.create_task(polling, name=f"poll {self._name} {lane}")
        return self._polling[lane]

    async def _take_positions(self) -> None:
        async with self._taking:
            if self._positioned:  # by another lane
                return
            epoch = self.epoch
            await cancelled(self._polling.values())
            if not all(polling.done() for polling in self._polling.values()):
                return  # it would take what is to be read from the new positions
            self._polling.clear()
            await self._idle.wait()
            partitions = sorted(self._kafka.assignment())
            stored = await in_thread(self._load)
            starts = await starts_of(self._kafka, stored, partitions, self._log)
            if epoch != self.epoch:
                return  # the partitions have changed meanwhile
            for tp, start in starts.items():
                self._kafka.seek(tp, start)
            self._stored = {tp: stored.get((tp.topic, tp.partition)) for tp in partitions}
            self._at = starts
            self._lanes = [partitions[lane :: len(self._lanes)] for lane in range(len(self._lanes))]
            self._positioned = True
            self._kafka.resume(*partitions)
            self._log.info("reading", partitions=self.partitions)

    def _load(self) -> dict[positions.Partition, int]:
        with self._engine.connect() as tx:
            return positions.load(tx, self._name, self.cluster_id)

    async def _tell_group(self) -> None:
        told: dict[TopicPartition, int] = {}
        try:
            while told != self._at:  # more may have been committed meanwhile
                told = dict(self._at)
                await asyncio.wait_for(self._kafka.commit(told), TELL_S)
        except Exception as error:
            self._log.debug("the group was not told of its positions", error=repr(error))


async def _cluster_id(settings: Settings) -> str:
    admin = make_admin(settings)
    await start_within(admin)
    try:
        return str((await admin.describe_cluster())["cluster_id"])
    finally:
        await stop_within(admin)
