"""Batches of events become effects in the database, each exactly once."""

import asyncio
import time
from collections.abc import Callable, Iterator, Sequence

from sqlalchemy import Engine

from consumers import positions
from consumers.backoff import Backoff
from consumers.contract import Consumer, UnreadableEvent
from consumers.database import is_unavailable
from consumers.dead_letters import DeadLetters
from consumers.positions import Fenced, Move
from consumers.reader import Reader
from runtime.logs import logger
from runtime.metrics import BATCH_SECONDS, CONSUMED, RETRIES
from runtime.settings import Settings
from runtime.threads import in_thread
from schemas.event import Record

# A transaction of more than this would hold its locks, and its memory, for too long.
BATCH_BYTES = 8 * 1024 * 1024

# An error that goes away by itself has done so by the third try; a poison event holds its partition up for a second.
TRIES = 3


class Abandoned(Exception):
    """The partitions have changed, or the process stops: nothing was done, and the events come again."""


class Effects:
    """Does what a consumer wants done, and decides what becomes of its failures."""

    def __init__(
        self,
        settings: Settings,
        consumer: Consumer,
        engine: Engine,
        dead_letters: DeadLetters,
        committed: Callable[[], None],
    ) -> None:
        self._prefix = settings.topic_prefix
        self._consumer = consumer
        self._engine = engine
        self._dead_letters = dead_letters
        self._committed = committed
        self.database_is_away = False
        self._log = logger("consumers.effects").bind(consumer=consumer.name)

    async def of(self, records: Sequence[Record], reader: Reader, stop: asyncio.Event) -> None:
        """Returns when all are committed or in the dead letters. Raises `Abandoned` and `Fenced`: read again."""
        arrived = time.perf_counter()
        work = _Work(reader, stop)
        for batch in batches(records):
            try:
                await self._commit(batch, work)
            except (Fenced, Abandoned):
                raise
            except Exception as error:
                self._tried_again("error", error)
                for record in batch:
                    await self._one(record, work)
            BATCH_SECONDS.labels(self._consumer.name).observe(time.perf_counter() - arrived)

    async def _one(self, record: Record, work: "_Work") -> None:
        """By itself, in its own transaction: the one that is to blame is found, and the others have their effects."""
        backoff = Backoff()
        for tries in range(1, TRIES + 1):
            try:
                return await self._commit([record], work)
            except (Fenced, Abandoned):
                raise
            except Exception as error:
                if isinstance(error, UnreadableEvent) or tries == TRIES:
                    return await self._give_up(record, error, work)
                self._tried_again("error", error)
                await backoff.wait(work.stop)
        return None

    async def _give_up(self, record: Record, error: Exception, work: "_Work") -> None:
        """The position passes the event only when Kafka has acknowledged its dead letter."""
        backoff = Backoff()
        place = f"{record.topic}/{record.partition}/{record.offset}"
        while (failure := await self._dead_letters.publish(record, error)) is not None:
            self._log.error("a dead letter can't be written; its partition waits", at=place, error=repr(failure))
            RETRIES.labels(self._consumer.name, "dead letter").inc()
            await backoff.wait(work.stop)
            work.check()
        self._log.error(
            "an event went to the dead letters", at=place, event_id=record.header("ce_id"), error=type(error).__name__
        )
        await self._commit([record], work, effects=False)

    async def _commit(self, records: Sequence[Record], work: "_Work", *, effects: bool = True) -> None:
        """Waits for a database that is away, for as long as it is. Raises what the consumer raises."""
        backoff = Backoff()
        while True:
            work.check()
            moves = work.reader.moves(records)
            try:
                with work.reader.committing():
                    await in_thread(self._transaction, records if effects else (), moves, work.reader.cluster_id)
                    work.check_epoch()
                    work.reader.moved(moves)
            except Exception as error:
                if not is_unavailable(error):
                    raise
                self.database_is_away = True
                self._tried_again("database", error)
                await backoff.wait(work.stop)
                continue
            break
        self.database_is_away = False
        self._committed()
        if effects:
            for move in moves:
                topic = move.topic.removeprefix(self._prefix)
                count = sum((record.topic, record.partition) == (move.topic, move.partition) for record in records)
                CONSUMED.labels(self._consumer.name, topic).inc(count)

    def _transaction(self, records: Sequence[Record], moves: Sequence[Move], cluster_id: str) -> None:
        with self._engine.begin() as tx:
            positions.advance(tx, self._consumer.name, cluster_id, moves)
            if records:
                self._consumer.handle(tx, records)

    def _tried_again(self, reason: str, error: Exception) -> None:
        RETRIES.labels(self._consumer.name, reason).inc()
        # Its text may quote the event; its class says enough, and a dead letter keeps the rest.
        self._log.warning("a batch is tried again", reason=reason, error=type(error).__name__)


class _Work:
    """Under which circumstances a batch was read, and whether they are still so."""

    def __init__(self, reader: Reader, stop: asyncio.Event) -> None:
        self.reader = reader
        self.stop = stop
        self._epoch = reader.epoch
        self._begun = False

    def check(self) -> None:
        """Before each try. A batch in flight is finished by a stop, so the first try is always made."""
        self.check_epoch()
        if self._begun and self.stop.is_set():
            raise Abandoned
        self._begun = True

    def check_epoch(self) -> None:
        if self._epoch != self.reader.epoch:
            raise Abandoned


def batches(records: Sequence[Record]) -> Iterator[list[Record]]:
    """In their order, each of at most `BATCH_BYTES`, or one record."""
    batch: list[Record] = []
    size = 0
    for record in records:
        bytes_ = len(record.value or b"")
        if batch and size + bytes_ > BATCH_BYTES:
            yield batch
            batch, size = [], 0
        batch.append(record)
        size += bytes_
    if batch:
        yield batch
