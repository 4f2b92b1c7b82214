"""Batches of events become effects in the database, each exactly once."""

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import TypeVar

from sqlalchemy import Engine

from consumers import letter_book, positions
from consumers.backoff import Backoff
from consumers.contract import Consumer, Later, UnreadableEvent
from consumers.database import read_only
from consumers.dead_letters import DeadLetters
from consumers.delivery import Delivery
from consumers.letter_book import Letter, Share
from consumers.outage import Outage, outage
from consumers.positions import Fenced, Move
from consumers.progress import Abandoned, Progress
from runtime.logs import logger
from runtime.metrics import BATCH_SECONDS, CONSUMED, RETRIES
from runtime.settings import PREFIX, Settings
from runtime.threads import in_thread
from schemas.check import without_checks
from schemas.event import Record

T = TypeVar("T")

# A transaction of more than this would hold its locks, and its memory, for too long.
BATCH_BYTES = 8 * 1024 * 1024

# An error that goes away by itself has done so by the third try; a poison event holds its partition up for a second.
TRIES = 3

# The longest that the other side may ask us to leave it alone: then we ask again, whatever was said.
LONGEST_PAUSE_S = 300.0


class TooManyDeadLetters(RuntimeError):
    """A sentence for people. To go on would empty the log into the dead letters."""


class Effects:
    """Does what a consumer wants done, and decides what becomes of its failures."""

    def __init__(
        self,
        settings: Settings,
        consumer: Consumer,
        engine: Engine,
        dead_letters: DeadLetters,
        committed: Callable[[], None],
        backoff: Callable[[], Backoff] = Backoff,
    ) -> None:
        self._prefix = settings.topic_prefix
        self._allowed_share = settings.dead_letter_share
        self._consumer = consumer
        self._delivery = consumer if isinstance(consumer, Delivery) else None
        self._engine = engine
        self._dead_letters = dead_letters
        self._committed = committed
        self._new_backoff = backoff
        self.outage: Outage | None = None  # of the database, while it lasts
        self.away: str | None = None  # why the other side takes nothing, while it does not
        self._log = logger("consumers.effects").bind(consumer=consumer.name)

    async def of(self, records: Sequence[Record], epoch: int, reader: Progress, stop: asyncio.Event) -> None:
        """Returns when all are committed or in the dead letters. `epoch` is the one in which they were read.

        Raises `Abandoned` and `Fenced`: read again.

        Raises `TooManyDeadLetters` instead of giving up an event too many; its position stays before it.
        """
        arrived = time.perf_counter()
        work = _Work(reader, epoch, stop)
        for batch in batches(records, self._delivery.max_records if self._delivery else None):
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
        backoff = self._new_backoff()
        for tries in range(1, TRIES + 1):
            try:
                return await self._commit([record], work)
            except (Fenced, Abandoned):
                raise
            except Exception as error:
                if isinstance(error, UnreadableEvent) or tries == TRIES:
                    async with self._dead_letters.one_at_a_time:
                        return await self._give_up(record, error, work)
                self._tried_again("error", error)
                await backoff.wait(work.stop)
        return None

    async def _give_up(self, record: Record, error: Exception, work: "_Work") -> None:
        """The position passes the event only when Kafka has acknowledged its dead letter."""
        backoff = self._new_backoff()
        place = f"{record.topic}/{record.partition}/{record.offset}"
        await self._refuse_beyond_share(place, error, work)
        while isinstance(letter := await self._dead_letters.publish(record, error), BaseException):
            self._log.error("a dead letter can't be written; its partition waits", at=place, error=repr(letter))
            RETRIES.labels(self._consumer.name, "dead letter").inc()
            await backoff.wait(work.stop)
            work.check()
        self._log.error(
            "an event went to the dead letters", at=place, event_id=record.header("ce_id"), error=type(error).__name__
        )
        await self._commit([record], work, letter)

    async def _refuse_beyond_share(self, place: str, error: Exception, work: "_Work") -> None:
        share = await self._from_database(work, lambda: in_thread(self._share_with_one_more))
        if share.exceeds(self._allowed_share):
            raise TooManyDeadLetters(
                f"with the event at {place}, which failed with {type(error).__name__}, {self._consumer.name} would have"
                f" given up {share.letters} of its last {share.events} events ({share.of_one:.1%}), and"
                f" {PREFIX}DEAD_LETTER_SHARE allows {self._allowed_share:.1%}. Nothing is lost: it stopped before that"
                f" event. Mend what fails and start it again (`ringlog dead-letters list {self._consumer.name}` shows"
                " what was given up; what is redriven or discarded no longer counts), or raise the setting"
            )

    def _share_with_one_more(self) -> Share:
        with read_only(self._engine).connect() as tx:
            return letter_book.share(tx, self._consumer.name, more=1)

    async def _commit(self, records: Sequence[Record], work: "_Work", letter: Letter | None = None) -> None:
        """The effects of the records or, with its letter, none of the one that is given up. Waits for the database.

        What is delivered is not delivered again because the database is away. Raises what the consumer raises.
        """
        calls = without_checks(records)
        to_deliver = self._delivery if letter is None and calls else None

        async def attempt() -> None:
            nonlocal to_deliver
            moves = work.reader.moves(records)
            with work.reader.committing():
                if to_deliver is not None:
                    await to_deliver.deliver(calls)
                    to_deliver = self.away = None
                await in_thread(self._transaction, calls, moves, work.reader.cluster_id, letter)
                work.check_epoch()
                work.reader.moved(moves)

        await self._from_database(work, attempt)
        self._committed()
        if letter is None:
            for topic, count in Counter(record.topic for record in records).items():
                CONSUMED.labels(self._consumer.name, topic.removeprefix(self._prefix)).inc(count)

    async def _from_database(self, work: "_Work", attempt: Callable[[], Awaitable[T]]) -> T:
        """Waits for a database that is away, or another side, as long as it is. Raises what else the attempt raises."""
        backoff = self._new_backoff()
        while True:
            work.check()
            try:
                result = await attempt()
            except Later as error:
                self._tell_away(error)
                await backoff.wait(work.stop, min(error.after_s or 0.0, LONGEST_PAUSE_S))
            except Exception as error:
                if (found := outage(error)) is None:
                    raise
                self.wait_for(found)
                await backoff.wait(work.stop)
            else:
                self.outage = self.away = None
                return result

    def _transaction(
        self, calls: Sequence[Record], moves: Sequence[Move], cluster_id: str, letter: Letter | None
    ) -> None:
        with self._engine.begin() as tx:
            positions.advance(tx, self._consumer.name, cluster_id, moves)
            if letter is None:
                if calls:
                    self._consumer.handle(tx, calls)
            else:
                letter_book.enter(tx, self._consumer.name, letter)

    def wait_for(self, found: Outage) -> None:
        """No event is to blame. What lasts is an error in the log: somebody has to do something."""
        self.outage = found
        RETRIES.labels(self._consumer.name, "database").inc()
        say = self._log.warning if found.passes else self._log.error
        say("waiting for the database", reason=found.reason)

    def _tell_away(self, error: Later) -> None:
        self.away = error.reason
        RETRIES.labels(self._consumer.name, "delivery").inc()
        self._log.warning("the other side is away; it is tried again", reason=error.reason)

    def _tried_again(self, reason: str, error: Exception) -> None:
        RETRIES.labels(self._consumer.name, reason).inc()
        # Its text may quote the event; its class says enough, and a dead letter keeps the rest.
        self._log.warning("a batch is tried again", reason=reason, error=type(error).__name__)


class _Work:
    """Under which circumstances a batch was read, and whether they are still so."""

    def __init__(self, reader: Progress, epoch: int, stop: asyncio.Event) -> None:
        self.reader = reader
        self.stop = stop
        self._epoch = epoch
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


def batches(records: Sequence[Record], most: int | None = None) -> Iterator[list[Record]]:
    """In their order, each of at most `BATCH_BYTES` and `most` records, or one record."""
    batch: list[Record] = []
    size = 0
    for record in records:
        bytes_ = len(record.value or b"")
        if batch and (size + bytes_ > BATCH_BYTES or len(batch) == most):
            yield batch
            batch, size = [], 0
        batch.append(record)
        size += bytes_
    if batch:
        yield batch
