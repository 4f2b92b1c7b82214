"""Derived events: written with the effects that they tell of, published after the commit. Those of a batch share a
row."""

import asyncio
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import msgspec
from sqlalchemy import Connection, Engine, bindparam, delete, func, insert, select, text, update

from consumers.backoff import Backoff
from consumers.database import read_only
from consumers.outage import outage
from consumers.parcels import Message
from consumers.publisher import Publisher
from consumers.rows import among
from consumers.tables import outbox
from runtime.logs import logger
from runtime.metrics import EVENTS_PUBLISHED, OUTBOX_WAITING
from runtime.settings import Settings
from runtime.threads import in_thread
from schemas.event import headers_of
from schemas.topics import MAX_MESSAGE_BYTES, Topic

# One that the topic refuses could never leave and would hold up all behind it. The rest is for headers and framing.
MAX_VALUE_BYTES = MAX_MESSAGE_BYTES - 128 * 1024

# In a row. It is read as a whole, and may be written once more, when Kafka takes a part of it.
ROW_EVENTS = 500
ROW_BYTES = 1024 * 1024

# At once, and hardly more. Each batch has round trips of its own, to the database and to Kafka, and waits for its turn
# beside lanes that work: at 18,000 small events a second 2000 at a time was too slow.
BATCH_EVENTS = 5000
BATCH_BYTES = 4 * 1024 * 1024

IDLE_S = 1.0  # between looks when nobody says that there is something
COUNT_EVERY_S = 1.0  # while more waits than a batch has: to count it is work for the database

_LOCK = text("SELECT pg_try_advisory_xact_lock(hashtext('ringlog outbox'), hashtext(:consumer))")


_REPLACE = (
    update(outbox)
    .where(outbox.c.id == bindparam("row"))
    .values(events=bindparam("number"), packed=bindparam("content"))
)


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


class Posted(NamedTuple):
    """An `OutboxEvent` as it waits: `topic` is its name in the catalogue."""

    topic: str
    caller_id: str
    event_type: str
    event_id: str
    time: int
    session_id: str
    value: bytes


packed = msgspec.msgpack.Encoder().encode
unpacked = msgspec.msgpack.Decoder(list[Posted]).decode


def post(tx: Connection, consumer: str, events: Sequence[OutboxEvent]) -> None:
    """To be published, in this order, once `tx` has committed. Raises `ValueError` for one that Kafka can't take."""
    by_row = _by_row([posted(event) for event in events])
    rows = [{"consumer": consumer, "events": len(some), "packed": packed(some)} for some in by_row]
    if rows:
        tx.execute(insert(outbox), rows)


def posted(event: OutboxEvent) -> Posted:
    """Raises `ValueError` for one that Kafka can't take."""
    if len(event.value) > MAX_VALUE_BYTES:
        raise ValueError(f"{event.event_type} {event.event_id} has {len(event.value)} bytes, too many for a topic")
    about = event.topic.name, event.caller_id, event.event_type, event.event_id, event.time, event.session_id
    return Posted(*about, event.value)


def _by_row(events: Sequence[Posted]) -> Iterator[Sequence[Posted]]:
    start = size = 0
    for place, event in enumerate(events):
        if place - start == ROW_EVENTS or (place > start and size + len(event.value) > ROW_BYTES):
            yield events[start:place]
            start, size = place, 0
        size += len(event.value)
    if start < len(events):
        yield events[start:]


def waiting(engine: Engine, consumer: str) -> int:
    """How many of a consumer's derived events Kafka has not acknowledged."""
    with read_only(engine).connect() as tx:
        return waiting_in(tx, consumer)


def waiting_in(tx: Connection, consumer: str) -> int:
    number = select(func.coalesce(func.sum(outbox.c.events), 0)).where(outbox.c.consumer == consumer)
    return int(tx.execute(number).scalar_one())


class _Row(NamedTuple):
    id: int
    events: list[Posted]


class _Batch(NamedTuple):
    """`tx` is where its rows are to be settled. `more`: whether more than these wait."""

    tx: Connection
    rows: list[_Row]
    messages: list[Message]
    more: bool


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
        sizes = select(outbox.c.id, outbox.c.events, func.length(outbox.c.packed)).where(outbox.c.consumer == consumer)
        self._sizes = sizes.order_by(outbox.c.id).limit(BATCH_EVENTS + 1)
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
                more, failure = await self.relay()
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
            if not more:
                await self._idle(stop)

    async def relay(self) -> tuple[bool, BaseException | None]:
        """One batch: whether more waits, and the first failure of publishing, if any."""
        batch = await in_thread(self._claim)
        try:
            if not batch.rows:
                return False, None
            outcomes = await self._publisher.publish(batch.messages)
            await in_thread(self._settle, batch, outcomes)
            events = (event for row in batch.rows for event in row.events)
            published = Counter(it.topic for it, failure in zip(events, outcomes, strict=True) if failure is None)
            for topic, number in published.items():
                EVENTS_PUBLISHED.labels(topic).inc(number)
            return batch.more, next(filter(None, outcomes), None)
        finally:
            if not batch.tx.closed:
                await in_thread(batch.tx.close)

    async def _idle(self, stop: asyncio.Event) -> None:
        waits = [asyncio.ensure_future(event.wait()) for event in (self._posted, stop)]
        await asyncio.wait(waits, timeout=IDLE_S, return_when=asyncio.FIRST_COMPLETED)
        for wait in waits:
            wait.cancel()

    def _claim(self) -> _Batch:
        """The next events, and the transaction in which they are to be settled."""
        tx = self._engine.connect()
        try:
            rows, more = self._next_rows(tx)
            return _Batch(tx, rows, [self._message(event) for row in rows for event in row.events], more)
        except BaseException:
            tx.close()
            raise

    def _next_rows(self, tx: Connection) -> tuple[list[_Row], bool]:
        """On PostgreSQL with the lock, which the transaction holds until they are settled."""
        locks = tx.dialect.name == "postgresql"
        if locks and not tx.execute(_LOCK, {"consumer": self._consumer}).scalar():
            return [], False
        sizes = [tuple(row) for row in tx.execute(self._sizes)]
        ids = _first(sizes)
        found = select(outbox.c.id, outbox.c.packed).where(among(tx, outbox.c.id, ids)).order_by(outbox.c.id)
        rows = [_Row(id_, unpacked(content)) for id_, content in tx.execute(found)] if ids else []
        more = len(ids) < len(sizes)
        self._tell_waiting(tx, sum(len(row.events) for row in rows), more)
        if not locks:
            tx.commit()  # SQLite has one write lock for all, and Kafka may take its time
        return rows, more

    def _tell_waiting(self, tx: Connection, found: int, more: bool) -> None:
        if more:
            if time.monotonic() - self._counted_at < COUNT_EVERY_S:
                return
            self._counted_at = time.monotonic()
            found = waiting_in(tx, self._consumer)
        OUTBOX_WAITING.labels(self._consumer).set(found)

    def _settle(self, batch: _Batch, outcomes: Sequence[BaseException | None]) -> None:
        """Deletes what Kafka has acknowledged. Of a row of which it took a part, the rest stays in its place."""
        tx, outcome = batch.tx, iter(outcomes)
        gone: list[int] = []
        for row in batch.rows:
            left = [event for event in row.events if next(outcome) is not None]
            if not left:
                gone.append(row.id)
            elif len(left) < len(row.events):
                tx.execute(_REPLACE, {"row": row.id, "number": len(left), "content": packed(left)})
        if gone:
            tx.execute(delete(outbox).where(among(tx, outbox.c.id, gone)))
        tx.commit()
        tx.close()

    def _message(self, event: Posted) -> Message:
        headers = headers_of(event.event_type, event.event_id, event.time, event.session_id)
        topic = self._prefix + event.topic
        return Message(topic=topic, key=event.caller_id.encode(), value=event.value, headers=headers)


def _first(sizes: Sequence[tuple[int, int, int]]) -> list[int]:
    """The ids of the first rows that make a batch, of id, events and bytes of each."""
    ids: list[int] = []
    events = size = 0
    for id_, number, length in sizes:
        events, size = events + number, size + length
        if ids and (events > BATCH_EVENTS or size > BATCH_BYTES):
            break
        ids.append(id_)
    return ids
