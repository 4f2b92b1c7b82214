"""Derived events: written with the effects that they tell of, published after the commit."""

import asyncio
import time
from collections import Counter
from collections.abc import Sequence
from typing import Any

import msgspec
from sqlalchemy import Connection, Engine, Integer, Row, bindparam, delete, func, select, text

from consumers.backoff import Backoff
from consumers.database import read_only
from consumers.outage import outage
from consumers.parcels import Message
from consumers.publisher import Publisher
from consumers.rows import among, insert_rows
from consumers.tables import outbox
from runtime.logs import logger
from runtime.metrics import EVENTS_PUBLISHED, OUTBOX_WAITING
from runtime.settings import Settings
from runtime.threads import in_thread
from schemas.event import headers_of
from schemas.topics import MAX_MESSAGE_BYTES, Topic

# One that the topic refuses could never leave and would hold up all behind it. The rest is for headers and framing.
MAX_VALUE_BYTES = MAX_MESSAGE_BYTES - 128 * 1024

# At once. While more waits, up to `MOST_EVENTS`, where a batch is no larger than `SMALL_BYTES`: each has round trips of
# its own, to the database and to Kafka, but is in memory, and the loop packs it without a pause.
BATCH_EVENTS = 500
MOST_EVENTS = 2000
SMALL_BYTES = 1024 * 1024

IDLE_S = 1.0  # between looks when nobody says that there is something
COUNT_EVERY_S = 1.0  # while more waits than a batch has: to count it is work for the database

_LOCK = text("SELECT pg_try_advisory_xact_lock(hashtext('ringlog outbox'), hashtext(:consumer))")


class OutboxEvent(msgspec.Struct, frozen=True, kw_only=True):
    """`event_id` must follow from the event that caused it: a rebuild publishes it again, under the same id.

    `caller_id` becomes the key; `time` is in microseconds since the epoch; `value` is the JSON.
    """

    topic: Topic
    caller_id: str
    event_type: str
    event_id: str
    time: int
    session_id: str
    value: bytes


def post(tx: Connection, consumer: str, events: Sequence[OutboxEvent]) -> None:
    """To be published, in this order, once `tx` has committed. Raises `ValueError` for one that Kafka can't take."""
    for event in events:
        if len(event.value) > MAX_VALUE_BYTES:
            raise ValueError(f"{event.event_type} {event.event_id} has {len(event.value)} bytes, too many for a topic")
    rows = [{**msgspec.structs.asdict(event), "consumer": consumer, "topic": event.topic.name} for event in events]
    insert_rows(tx, outbox, rows)


def waiting(engine: Engine, consumer: str) -> int:
    """How many of a consumer's derived events Kafka has not acknowledged."""
    with read_only(engine).connect() as tx:
        return waiting_in(tx, consumer)


def waiting_in(tx: Connection, consumer: str) -> int:
    return tx.execute(select(func.count()).select_from(outbox).where(outbox.c.consumer == consumer)).scalar_one()


class OutboxRelay:
    """Publishes what a consumer has posted, in order, and deletes it once Kafka has acknowledged it.

    At least once: after a crash in between, an event goes out again under the same id. On PostgreSQL one process of a
    consumer relays at a time, so that two events of a caller can't overtake each other; another takes over when it is
    gone. On SQLite, where a consumer is one process, there is no such lock.
    """

    def __init__(self, settings: Settings, consumer: str, engine: Engine, publisher: Publisher) -> None:
        self._prefix = settings.topic_prefix
        self._consumer = consumer
        self._engine = engine
        self._publisher = publisher
        self._posted = asyncio.Event()
        self._counted_at = 0.0
        self._most = BATCH_EVENTS
        columns = [column for column in outbox.c if column is not outbox.c.consumer]
        of_mine = select(*columns).where(outbox.c.consumer == consumer)
        self._next = of_mine.order_by(outbox.c.id).limit(bindparam("most", type_=Integer))
        self._log = logger("consumers.outbox").bind(consumer=consumer)

    def wake(self) -> None:
        """Something may have been posted. From the loop's thread."""
        self._posted.set()

    async def run(self, stop: asyncio.Event) -> None:
        """Until `stop`. Kafka or the database may be away for as long as they like."""
        backoff = Backoff()
        while not stop.is_set():
            self._posted.clear()
            try:
                found, failure = await self.relay()
            except Exception as error:
                away = outage(error)
                say = self._log.warning if away and away.passes else self._log.error
                say("the outbox waits", error=type(error).__name__, reason=away and away.reason)
                await backoff.wait(stop)
                continue
            if failure is not None:
                self._log.warning("derived events wait for Kafka", error=type(failure).__name__, reason=str(failure))
                await backoff.wait(stop)
                continue
            backoff.reset()
            if found < BATCH_EVENTS:
                await self._idle(stop)

    async def relay(self) -> tuple[int, BaseException | None]:
        """One batch: how many events it had, and the first failure of publishing, if any."""
        tx, rows, messages = await in_thread(self._claim)
        try:
            if not rows:
                return 0, None
            outcomes = await self._publisher.publish(messages)
            published = [row for row, failure in zip(rows, outcomes, strict=True) if failure is None]
            await in_thread(self._delete, tx, [row.id for row in published])
            for topic, events in Counter(row.topic for row in published).items():
                EVENTS_PUBLISHED.labels(topic).inc(events)
            return len(rows), next(filter(None, outcomes), None)
        finally:
            if not tx.closed:
                await in_thread(tx.close)

    async def _idle(self, stop: asyncio.Event) -> None:
        waits = [asyncio.ensure_future(event.wait()) for event in (self._posted, stop)]
        await asyncio.wait(waits, timeout=IDLE_S, return_when=asyncio.FIRST_COMPLETED)
        for wait in waits:
            wait.cancel()

    def _claim(self) -> tuple[Connection, Sequence[Row[Any]], list[Message]]:
        """The next events, and the transaction in which they are to be deleted."""
        tx = self._engine.connect()
        try:
            rows = self._next_rows(tx)
            return tx, rows, [self._message(row) for row in rows]
        except BaseException:
            tx.close()
            raise

    def _next_rows(self, tx: Connection) -> Sequence[Row[Any]]:
        """On PostgreSQL with the lock, which the transaction holds until they are deleted."""
        locks = tx.dialect.name == "postgresql"
        if locks and not tx.execute(_LOCK, {"consumer": self._consumer}).scalar():
            return []
        rows = tx.execute(self._next, {"most": self._most}).all()
        more_wait = len(rows) == self._most
        self._tell_waiting(tx, len(rows), more_wait)
        is_small = sum(len(row.value) for row in rows) <= SMALL_BYTES
        self._most = min(2 * self._most, MOST_EVENTS) if more_wait and is_small else BATCH_EVENTS
        if not locks:
            tx.commit()  # SQLite has one write lock for all, and Kafka may take its time
        return rows

    def _tell_waiting(self, tx: Connection, found: int, more_wait: bool) -> None:
        """What does not fill a batch is all there is."""
        if more_wait:
            if time.monotonic() - self._counted_at < COUNT_EVERY_S:
                return
            self._counted_at = time.monotonic()
            found = waiting_in(tx, self._consumer)
        OUTBOX_WAITING.labels(self._consumer).set(found)

    def _delete(self, tx: Connection, ids: Sequence[int]) -> None:
        if ids:
            tx.execute(delete(outbox).where(among(tx, outbox.c.id, ids)))
        tx.commit()
        tx.close()

    def _message(self, row: Sequence[Any]) -> Message:
        _, topic, caller_id, event_type, event_id, time_us, session_id, value = row
        headers = headers_of(event_type, event_id, time_us, session_id)
        return Message(topic=self._prefix + topic, key=caller_id.encode(), value=value, headers=headers)
