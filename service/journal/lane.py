"""Group commit: the events of one partition that arrive together share a record batch and an acknowledgement."""

import asyncio
import time
from collections import deque
from collections.abc import Sequence
from typing import Any, Protocol

from aiokafka import AIOKafkaProducer
from aiokafka.producer.message_accumulator import BatchBuilder

from runtime.metrics import ACK_SECONDS, EVENTS_PUBLISHED
from service.journal.entry import Entry

# Beyond it the spool takes what waits; a leader that is alive acknowledges within milliseconds.
ACK_DEADLINE_S = 2.0

_LATE_LOOK_S = 0.5


class Unacknowledged(ConnectionError):
    """No acknowledgement in time. The records may still arrive."""


class Batch:
    """A record batch in the making, and the future that everyone in it awaits."""

    __slots__ = ("builder", "done", "entries", "size")

    def __init__(self, builder: BatchBuilder, done: "asyncio.Future[None]") -> None:
        self.builder = builder
        self.done = done
        self.entries: list[Entry] = []
        self.size = 0


class LaneOwner(Protocol):
    """Who decides what becomes of events that a lane could not deliver. Neither method may block or raise."""

    def acknowledged(self, batch: Batch) -> None: ...

    def undelivered(self, lane: "Lane", batches: list[Batch], reason: str) -> None:
        """The lane has opened, and these, in their order, are no longer its own: their `done` is the owner's now."""

    def failed(self, lane: "Lane", error: Exception) -> None:
        """A batch was not acknowledged, and the lane has opened."""


class Lane:
    """One partition. At most one batch is in flight: what arrives meanwhile gathers in the next one, so that load makes
    batches larger and idleness adds no wait. `linger_s` waits a little even when idle, where nobody waits for us.

    It is a circuit breaker, too. *Closed*, it takes events and sends them. A batch without its acknowledgement opens
    it: everything that waits is given back to the owner, and behind one deadline nobody waits for another. *Open*, it
    takes nothing; the drainer `deliver`s what has gathered elsewhere. *Held*, it takes events, and sends them when the
    drainer has delivered the last of what came before them, and closes it: so no event overtakes another.
    """

    def __init__(self, topic: str, on_cluster: str, partition: int, linger_s: float, owner: LaneOwner) -> None:
        self.topic = topic  # as the catalogue calls it
        self.partition = partition
        self.is_open = False
        self._name = on_cluster
        self._linger_s = linger_s
        self._owner = owner
        self._loop = asyncio.get_running_loop()
        self._producer: AIOKafkaProducer | None = None
        self._full: deque[Batch] = deque()
        self._gathering: Batch | None = None
        self._sending: Batch | None = None
        self._late: asyncio.Future[object] | None = None
        self._task: asyncio.Task[None] | None = None
        self._armed = False
        self._held = False
        self._ack_seconds = ACK_SECONDS.labels(topic)
        self._published = EVENTS_PUBLISHED.labels(topic)

    def connect(self, producer: AIOKafkaProducer | None) -> None:
        """From the next batch on this producer is used. Of what is late in the former nothing is expected any more."""
        self._producer = producer
        self._late = None

    def append(self, entry: Entry) -> "asyncio.Future[None]":
        """While it is not open. The future is shared by everyone in the batch: await it, never cancel it."""
        batch = self._gathering or self._new_batch()
        if batch.builder.append(timestamp=None, key=entry.key, value=entry.value, headers=entry.headers) is None:
            self._full.append(batch)
            batch = self._new_batch()
            # The first record of a batch always fits: the size of an event was checked before it came here.
            batch.builder.append(timestamp=None, key=entry.key, value=entry.value, headers=entry.headers)
        batch.entries.append(entry)
        batch.size += entry.size
        if self._task is None and not self._armed and not self._held:
            self._arm()
        return batch.done

    async def deliver(self, entries: Sequence[Entry], deadline_s: float) -> int:
        """Past the queue, for the drainer, while the lane is open or held: how many fitted into the batch.

        Raises `Unacknowledged`, and Kafka's errors.
        """
        builder = self._connected().create_batch()
        count = 0
        for entry in entries:
            if builder.append(timestamp=None, key=entry.key, value=entry.value, headers=entry.headers) is None:
                break
            count += 1
        await self._acknowledgement(builder, deadline_s)
        self._published.inc(count)
        return count

    async def late(self, patience_s: float) -> None:
        """Returns when what was sent last has its outcome, or its producer is gone.

        Raises `Unacknowledged`, after which nothing is expected of it any more, and Kafka's errors.
        """
        deadline = self._loop.time() + patience_s
        while (late := self._late) is not None:
            await asyncio.wait({late}, timeout=_LATE_LOOK_S)  # the producer may be replaced meanwhile
            if late.done():
                self._late = None
                late.result()
            elif self._loop.time() > deadline:
                self._late = None
                raise Unacknowledged("what was sent last is still without its acknowledgement")

    def open(self, reason: str) -> None:
        """Gives everything back that waits, and takes nothing more."""
        if self._task is not None:
            self._task.cancel()
            self._task = None
        batches = [self._sending] if self._sending is not None else []
        while (batch := self._next()) is not None:
            batches.append(batch)
        self._sending, self._held = None, False
        self.is_open = True
        if batches:
            self._owner.undelivered(self, batches, reason)

    def hold(self) -> None:
        """An open lane takes events again, and keeps them until `close`. Raises `Unacknowledged` when not connected."""
        self._connected()
        self._held = True
        self.is_open = False

    def close(self) -> None:
        self._held = self.is_open = False
        if self._gathering is not None or self._full:
            self._arm()

    @property
    def is_held(self) -> bool:
        return self._held

    @property
    def is_late(self) -> bool:
        """Whether something is without its acknowledgement that may have it yet."""
        return self._late is not None

    async def drained(self) -> None:
        """When nothing waits any more."""
        if self._armed:
            self._start()
        if self._task is not None:
            await asyncio.wait({self._task})

    def _connected(self) -> AIOKafkaProducer:
        if self._producer is None:
            raise Unacknowledged("not connected")
        return self._producer

    def _new_batch(self) -> Batch:
        done: asyncio.Future[None] = self._loop.create_future()
        done.add_done_callback(seen)
        self._gathering = Batch(self._connected().create_batch(), done)
        return self._gathering

    def _arm(self) -> None:
        self._armed = True
        if self._linger_s:
            self._loop.call_later(self._until_next_round_s(), self._start)
        else:
            self._loop.call_soon(self._start)

    def _start(self) -> None:
        self._armed = False
        if self._task is None and not self._held and not self.is_open:
            self._task = self._loop.create_task(self._send_all())

    def _until_next_round_s(self) -> float:
        """Rounds are the same for all lanes that linger: what they send at once shares a request to the broker."""
        return self._linger_s - self._loop.time() % self._linger_s

    def _next(self) -> Batch | None:
        if self._full:
            return self._full.popleft()
        batch, self._gathering = self._gathering, None
        return batch

    async def _send_all(self) -> None:
        while (batch := self._next()) is not None:
            self._sending = batch
            try:
                await self._acknowledgement(batch.builder, ACK_DEADLINE_S)
            except Exception as error:
                self._task = None
                self.open(str(error) or repr(error))
                self._owner.failed(self, error)
                return
            self._sending = None
            self._published.inc(len(batch.entries))
            self._owner.acknowledged(batch)
            if self._linger_s and not self._full:
                await asyncio.sleep(self._until_next_round_s())  # or load would make batches small, not large
        self._task = None

    async def _acknowledgement(self, builder: BatchBuilder, deadline_s: float) -> None:
        """Raises `Unacknowledged`, and Kafka's errors."""
        builder.close()
        started = time.perf_counter()
        sent: asyncio.Future[object] | None = None
        producer = self._connected()
        try:
            async with asyncio.timeout(deadline_s):
                sent = await producer.send_batch(builder, self._name, partition=self.partition)
                # Not awaited itself: a deadline would cancel it, and then nobody would see it arrive late.
                await asyncio.wait({sent})
        except TimeoutError:
            # Of a producer that was replaced meanwhile it may never come, however long one waits.
            self._late = sent if producer is self._producer else None
            raise Unacknowledged(f"no acknowledgement within {deadline_s:g} s") from None
        finally:
            if sent is not None:
                sent.add_done_callback(seen)
        sent.result()
        self._ack_seconds.observe(time.perf_counter() - started)


def seen(done: "asyncio.Future[Any]") -> None:
    """Somebody may have stopped waiting for it; asyncio would report its error as never retrieved."""
    if not done.cancelled():
        done.exception()
