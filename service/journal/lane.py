"""Group commit: the events of one partition that arrive together share a record batch and an acknowledgement."""

import asyncio
import time
from collections import deque
from collections.abc import Callable

from aiokafka import AIOKafkaProducer
from aiokafka.producer.message_accumulator import BatchBuilder

from runtime.metrics import ACK_SECONDS, EVENTS_FAILED, EVENTS_PUBLISHED
from schemas.event import Headers
from service.journal.entry import NotDurable

# Beyond it the caller is told 503 and may try again; a leader that is alive acknowledges within milliseconds.
ACK_DEADLINE_S = 2.0


class _Batch:
    """A record batch in the making, and the future that everyone in it awaits."""

    __slots__ = ("builder", "done", "records", "size")

    def __init__(self, builder: BatchBuilder, done: "asyncio.Future[None]") -> None:
        self.builder = builder
        self.done = done
        self.records = 0
        self.size = 0


class Lane:
    """One partition. At most one batch is in flight: what arrives meanwhile gathers in the next one, so that load makes
    batches larger and idleness adds no wait. `linger_s` waits a little even when idle, where nobody waits for us.

    `on_settled(records, bytes)` is called when a batch has its outcome, whichever; `on_failure(error)` when it is bad.
    """

    def __init__(
        self,
        producer: AIOKafkaProducer,
        topic: str,
        partition: int,
        linger_s: float,
        on_settled: Callable[[int, int], None],
        on_failure: Callable[[Exception], None],
    ) -> None:
        self._producer = producer
        self._topic = topic
        self._partition = partition
        self._linger_s = linger_s
        self._on_settled = on_settled
        self._on_failure = on_failure
        self._loop = asyncio.get_running_loop()
        self._full: deque[_Batch] = deque()
        self._open: _Batch | None = None
        self._task: asyncio.Task[None] | None = None
        self._armed = False
        self._ack_seconds = ACK_SECONDS.labels(topic)
        self._published = EVENTS_PUBLISHED.labels(topic)
        self._failed = EVENTS_FAILED.labels(topic)

    def append(self, key: bytes | None, value: bytes | None, headers: Headers) -> "asyncio.Future[None]":
        """The future is shared by everyone in the batch: await it, never cancel it. Its error is `NotDurable`."""
        batch = self._open or self._new_batch()
        if batch.builder.append(timestamp=None, key=key, value=value, headers=headers) is None:
            self._full.append(batch)
            batch = self._new_batch()
            # The first record of a batch always fits: the size of an event was checked before it came here.
            batch.builder.append(timestamp=None, key=key, value=value, headers=headers)
        batch.records += 1
        batch.size += len(value or b"")
        if self._task is None and not self._armed:
            self._armed = True
            if self._linger_s:
                self._loop.call_later(self._until_next_round_s(), self._start)
            else:
                self._loop.call_soon(self._start)
        return batch.done

    def fail(self, reason: str) -> None:
        """Everything that waits: the producer is gone."""
        if self._task is not None:
            self._task.cancel()
        self._fail_waiting(reason)

    async def drained(self) -> None:
        """When nothing waits any more."""
        if self._armed:
            self._start()
        if self._task is not None:
            await asyncio.wait({self._task})

    def _new_batch(self) -> _Batch:
        done: asyncio.Future[None] = self._loop.create_future()
        done.add_done_callback(_seen)
        self._open = _Batch(self._producer.create_batch(), done)
        return self._open

    def _start(self) -> None:
        self._armed = False
        if self._task is None:
            self._task = self._loop.create_task(self._send_all())

    def _until_next_round_s(self) -> float:
        """Rounds are the same for all lanes that linger: what they send at once shares a request to the broker."""
        return self._linger_s - self._loop.time() % self._linger_s

    def _fail_waiting(self, reason: str) -> None:
        while (batch := self._next()) is not None:
            self._settle(batch, NotDurable(reason))

    def _next(self) -> _Batch | None:
        if self._full:
            return self._full.popleft()
        batch, self._open = self._open, None
        return batch

    async def _send_all(self) -> None:
        try:
            while (batch := self._next()) is not None:
                try:
                    await self._send(batch)
                except asyncio.CancelledError:
                    self._settle(batch, NotDurable("the connection to Kafka was given up"))
                    raise
                if self._linger_s and not self._full:
                    await asyncio.sleep(self._until_next_round_s())  # or load would make batches small, not large
        finally:
            self._task = None

    async def _send(self, batch: _Batch) -> None:
        batch.builder.close()
        started = time.perf_counter()
        try:
            async with asyncio.timeout(ACK_DEADLINE_S):
                acknowledged = await self._producer.send_batch(batch.builder, self._topic, partition=self._partition)
                await acknowledged
        except Exception as error:
            reason = "no acknowledgement in time" if isinstance(error, TimeoutError) else repr(error)
            self._settle(batch, NotDurable(reason))
            self._fail_waiting(reason)  # behind one deadline nobody waits for another
            self._on_failure(error)
        else:
            self._ack_seconds.observe(time.perf_counter() - started)
            self._settle(batch, None)

    def _settle(self, batch: _Batch, error: NotDurable | None) -> None:
        self._on_settled(batch.records, batch.size)
        (self._published if error is None else self._failed).inc(batch.records)
        if batch.done.done():
            return
        if error is None:
            batch.done.set_result(None)
        else:
            batch.done.set_exception(error)


def _seen(done: "asyncio.Future[None]") -> None:
    """A batch of prefetch events has nobody who awaits it; asyncio would report its error as never retrieved."""
    if not done.cancelled():
        done.exception()
