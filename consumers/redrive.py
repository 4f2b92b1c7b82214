"""Feeding dead letters to their consumer again, and to no other. See `docs/dead-letters.md`."""

import asyncio
import itertools
import traceback
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from pathlib import Path
from typing import Literal

import msgspec
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError
from sqlalchemy import Engine

from consumers import letter_book
from consumers.backoff import Backoff
from consumers.contract import Consumer, Later
from consumers.database import DatabaseUnavailable, read_only
from consumers.dead_letters import completed, event_of, is_head
from consumers.delivery import Delivery
from consumers.letter_book import Letter
from consumers.outage import outage
from runtime.clock import Clock, system_clock
from runtime.kafka import KafkaUnavailable, make_consumer, record_of, start_within, stop_within
from runtime.settings import Settings
from runtime.threads import in_thread
from schemas.event import Record
from schemas.topics import dead_letters

# A running consumer may hold the session, or SQLite's only write lock, for the length of a batch.
DATABASE_PATIENCE_S = 30.0

# Kafka answers a fetch within half a second, and a new leader within a dozen.
FETCH_PATIENCE_S = 20.0


AT_ONCE = 10  # for memory: they may have megabytes, and are handled one by one


class OtherSideUnavailable(ConnectionError):
    """What a deliverer delivers to can't take it, in a sentence for people."""


class Failed(msgspec.Struct, frozen=True):
    """`error` is its class and `where` the line that raised it: neither quotes the event."""

    letter: Letter
    error: str
    where: str


Result = Literal["redriven", "already"] | Failed


class Redrive:
    """Handles given-up events in this process: each in a transaction of its own, with the book's row of it.

    So a letter is redriven once, whoever else tries, and however this one ends. Consumers that run don't mind: a
    session that both write is locked by its row. What a deliverer delivers may, as always, come twice.
    """

    def __init__(self, consumer: Consumer, engine: Engine, clock: Clock = system_clock) -> None:
        self._consumer = consumer
        self._engine = engine
        self._clock = clock

    async def one(self, letter: Letter, event: Record | None, stop: asyncio.Event) -> Result:
        """`event` is None for a letter that Kafka has no more.

        Raises `DatabaseUnavailable` and `OtherSideUnavailable`.
        """
        if event is None:
            return Failed(letter, "LetterNotFound", f"offset {letter.letter_offset} of {letter.letter_partition}")
        backoff = Backoff()
        loop = asyncio.get_running_loop()
        deadline = loop.time() + DATABASE_PATIENCE_S
        to_deliver = self._consumer if isinstance(self._consumer, Delivery) else None
        while True:
            try:
                if to_deliver is not None and not await in_thread(self._is_redriven, letter):
                    await to_deliver.deliver([event])
                    to_deliver = None
                done = await in_thread(self._transaction, letter, event)
            except Later as error:
                raise OtherSideUnavailable(f"{self._consumer.name} can't do it now: {error.reason}.") from error
            except Exception as error:
                if (away := outage(error)) is None:
                    return Failed(letter, type(error).__name__, _where(error, self._consumer))
                if not away.passes or loop.time() > deadline or stop.is_set():
                    raise DatabaseUnavailable(f"The database can't be written: {away.reason}.") from error
                await backoff.wait(stop)
            else:
                return "redriven" if done else "already"

    def _is_redriven(self, letter: Letter) -> bool:
        with read_only(self._engine).connect() as tx:
            return letter_book.is_redriven(tx, self._consumer.name, letter)

    def _transaction(self, letter: Letter, event: Record) -> bool:
        with self._engine.begin() as tx:
            if not letter_book.settle(tx, self._consumer.name, letter, "redriven", self._clock()):
                return False
            self._consumer.handle(tx, [event])
            return True


async def read(
    settings: Settings, consumer: str, letters: Sequence[Letter]
) -> AsyncGenerator[tuple[Letter, Record | None], None]:
    """Each with its record of the dead letters, or None when there is none of that event. Raises `KafkaUnavailable`.

    In the order of that topic: what it has of a caller lies in one partition, in the order in which it was given up.
    Then come those whose events were too large for a letter, with the events as they lie in their own topics.
    """
    if not letters:
        return
    topic = dead_letters(consumer).named(settings.topic_prefix)
    kafka = make_consumer(settings)
    await start_within(kafka)
    try:
        if topic not in await kafka.topics():
            raise KafkaUnavailable(
                f"Kafka has no topic {topic}: is it the Kafka that {consumer} reads, and RINGLOG_TOPIC_PREFIX the same?"
            )
        by_place = sorted(letters, key=lambda letter: (letter.letter_partition, letter.letter_offset))
        heads: list[tuple[Letter, Record]] = []
        for partition, some in itertools.groupby(by_place, lambda letter: letter.letter_partition):
            async for letter, record in _read_partition(kafka, TopicPartition(topic, partition), list(some)):
                if record is not None and is_head(record):
                    heads.append((letter, record))
                else:
                    yield letter, record
        for letter, head in heads:
            yield letter, await _completed(kafka, letter, head)
    except (KafkaError, TimeoutError) as error:
        raise KafkaUnavailable(f"Kafka can't be read: {str(error) or 'it gave no answer'}") from error
    finally:
        await stop_within(kafka)


async def _read_partition(
    kafka: AIOKafkaConsumer, tp: TopicPartition, letters: Sequence[Letter]
) -> AsyncIterator[tuple[Letter, Record | None]]:
    wanted = {letter.letter_offset: letter for letter in letters}
    kafka.assign([tp])
    async with asyncio.timeout(FETCH_PATIENCE_S):  # of a partition that isn't there aiokafka goes on asking for ever
        earliest, end = (await kafka.beginning_offsets([tp]))[tp], (await kafka.end_offsets([tp]))[tp]
    there = [offset for offset in wanted if earliest <= offset < end]
    if there:
        async for record in _records(kafka, tp, min(there), max(there)):
            if (letter := wanted.get(record.offset)) and _is_of(letter, event_of(record)):
                del wanted[record.offset]
                yield letter, record
    for letter in wanted.values():
        yield letter, None


async def _completed(kafka: AIOKafkaConsumer, letter: Letter, head: Record) -> Record | None:
    """With the event that was too large for a letter, from its topic; None when that has it no more."""
    tp = TopicPartition(letter.topic, letter.partition)
    if tp.topic not in await kafka.topics():
        return None
    kafka.assign([tp])
    async with asyncio.timeout(FETCH_PATIENCE_S):
        earliest, end = (await kafka.beginning_offsets([tp]))[tp], (await kafka.end_offsets([tp]))[tp]
    if not earliest <= letter.offset < end:
        return None
    async for event in _records(kafka, tp, letter.offset, letter.offset):
        if event.offset == letter.offset:
            return completed(head, event)
    return None


async def _records(kafka: AIOKafkaConsumer, tp: TopicPartition, first: int, last: int) -> AsyncIterator[Record]:
    kafka.seek(tp, first)
    read_at = asyncio.get_running_loop().time()
    while await kafka.position(tp) <= last:
        messages = (await kafka.getmany(tp, timeout_ms=500, max_records=AT_ONCE)).get(tp, [])
        if not messages and asyncio.get_running_loop().time() - read_at > FETCH_PATIENCE_S:
            raise TimeoutError(f"nothing came for {FETCH_PATIENCE_S:g} s")
        for message in messages:
            if message.offset <= last:
                yield record_of(message)
        if messages:
            read_at = asyncio.get_running_loop().time()  # only now: what was done with them may have taken long


def _is_of(letter: Letter, event: Record | None) -> bool:
    """Another Kafka, or a topic made anew, has something else at that place."""
    here = letter.topic, letter.partition, letter.offset
    return event is not None and (event.topic, event.partition, event.offset) == here


def _where(error: Exception, consumer: Consumer) -> str:
    """The innermost line of the consumer's own: what a library raised is understood by who asked it."""
    written = consumer.deliverer if isinstance(consumer, Delivery) else consumer
    own = {"consumers", "schemas", type(written).__module__.partition(".")[0]}
    frames = [
        (frame.f_code, line, frame.f_globals["__name__"]) for frame, line in traceback.walk_tb(error.__traceback__)
    ]
    code, line, _ = next((it for it in reversed(frames) if it[2].partition(".")[0] in own), frames[-1])
    return f"{Path(code.co_filename).name}:{line} in {code.co_name}"
