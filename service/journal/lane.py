"""Group commit: the events of one partition that arrive together share a record batch and an acknowledgement."""

import asyncio
import functools
import time
from collections import deque
from collections.abc import Sequence
from itertools import takewhile
from typing import Protocol

from aiokafka import AIOKafkaProducer

from runtime.metrics import ACK_SECONDS, EVENTS_PUBLISHED
from service.journal.batch import Batch, OpenBatch, seen
from service.journal.entry import Entry

# Beyond it the spool takes what waits; a leader that is alive acknowledges within milliseconds.
ACK_DEADLINE_S = 2.0

_LATE_LOOK_S = 0.5


class Unacknowledged(ConnectionError):
    """No acknowledgement in time. The records may still arrive."""


class LaneOwner(Protocol):
    """Who decides what becomes of events that a lane could not deliver. Neither method may block or raise."""

    def acknowledged(self, batch: Batch) -> None: ...

    def undelivered(self, lane: "Lane", batches: list[Batch], reason: str) -> None:
        """The lane has opened, and these, in their order, are no longer its own: their `done` is the owner's now."""

    def failed(self, lane: "Lane", error: BaseException) -> None:
        """A batch was not acknowledged, and the lane has opened."""


class Lane:
    """One partition. At most one batch is in flight: what arrives meanwhile gathers in the next one, which waits at the
    producer for its turn, so that load makes batches larger and idleness adds no wait. `linger_s` waits a little even
    when idle, where nobody waits for us.

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
        self._sending: deque[Batch] = deque()  # a producer has them, in their order
        self._late: asyncio.Future[object] | None = None
        self._task: asyncio.Task[None] | None = None
        self._armed = False
        self._progress_at = 0.0
        self._deadline: asyncio.TimerHandle | None = None
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
        if not batch.add(entry):
            if batch.producer is None:  # it is full; or else a producer has it, and has taken it by now
                self._full.append(batch)
            batch = self._new_batch()
            batch.add(entry)
        if batch.producer is None:
            self._arm()
        return batch.done

    async def deliver(self, entries: Sequence[Entry], deadline_s: float) -> int:
        """Past the queue, for the drainer, while the lane is open or held: how many fitted into the batch.

        Raises `Unacknowledged`, and Kafka's errors.
        """
        self._connected()
        builder = OpenBatch()
        count = sum(1 for _ in takewhile(builder.add, entries))
        builder.close()
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
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
        batches = [*self._sending, *self._full]
        if self._gathering is not None and self._gathering.producer is None:
            batches.append(self._gathering)
        self._sending.clear()
        self._full.clear()
        self._gathering = None
        self._held = False
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
        if self._next() is not None:
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
        while self._armed or self._task is not None or self._sending:
            if self._armed:
                self._start()
            elif self._task is not None:
                await asyncio.wait({self._task})
            else:
                await asyncio.wait({self._sending[0].done})

    def _connected(self) -> AIOKafkaProducer:
        if self._producer is None:
            raise Unacknowledged("not connected")
        return self._producer

    def _new_batch(self) -> Batch:
        self._connected()
        self._gathering = Batch()
        return self._gathering

    def _arm(self) -> None:
        if self._armed or self._task is not None or self._held:
            return
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
        """What no producer has yet. What one has must have its outcome before another one gets more of this lane."""
        if self._sending and self._sending[-1].producer is not self._producer:
            return None
        if self._full:
            return self._full[0]
        return self._gathering if self._gathering is not None and self._gathering.producer is None else None

    async def _send_all(self) -> None:
        """Gives to the producer all there is."""
        try:
            while (batch := self._next()) is not None:
                producer = batch.producer = self._connected()
                batch.sent_at = self._loop.time()
                if self._full:
                    self._full.popleft()
                if not self._sending:
                    self._progress_at = batch.sent_at
                self._sending.append(batch)
                if self._deadline is None:
                    self._deadline = self._loop.call_later(ACK_DEADLINE_S, self._look_at_deadline)
                # It waits there while another of ours waits for its turn.
                batch.sent = await producer.send_batch(batch.builder, self._name, partition=self.partition)
                batch.sent.add_done_callback(functools.partial(self._sent, batch))
        except Exception as error:
            self._task = None
            self._fail(error)
        else:
            self._task = None

    def _sent(self, batch: Batch, sent: "asyncio.Future[object]") -> None:
        error = Unacknowledged("the producer gave up") if sent.cancelled() else sent.exception()
        if batch not in self._sending:
            return  # the lane has opened since, and it is the owner's
        if error is not None:
            self._fail(error)
            return
        self._sending.remove(batch)
        if self._gathering is batch:
            self._gathering = None
        self._progress_at = self._loop.time()
        self._ack_seconds.observe(self._progress_at - batch.sent_at)
        self._published.inc(batch.count)
        self._owner.acknowledged(batch)
        if self._next() is not None:
            self._arm()

    def _look_at_deadline(self) -> None:
        """One timer for many batches: it looks again when one may be late."""
        self._deadline = None
        if not self._sending:
            return
        left_s = self._progress_at + ACK_DEADLINE_S - self._loop.time()
        if left_s > 0:
            self._deadline = self._loop.call_later(left_s, self._look_at_deadline)
            return
        # Of a producer that was replaced meanwhile it may never come, however long one waits.
        expected = [batch.sent for batch in self._sending if batch.producer is self._producer]
        self._late = expected[-1] if expected else None
        self._fail(Unacknowledged(f"no acknowledgement within {ACK_DEADLINE_S:g} s"))

    def _fail(self, error: BaseException) -> None:
        self.open(str(error) or repr(error))
        self._owner.failed(self, error)

    async def _acknowledgement(self, builder: OpenBatch, deadline_s: float) -> None:
        """Of what the drainer delivers. Raises `Unacknowledged`, and Kafka's errors."""
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
