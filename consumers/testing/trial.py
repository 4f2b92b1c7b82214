"""One trial of a consumer: a log and a database of its own, and the code that drives every consumer."""

import asyncio
import functools
import inspect
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random
from types import TracebackType
from typing import Any

import msgspec
from aiokafka.structs import RecordMetadata, TopicPartition
from sqlalchemy import Connection, Table, event, select

from consumers import own, own_tables
from consumers.backoff import Backoff
from consumers.contract import Consumer, Deliverer, Record
from consumers.database import migrate, open_engine
from consumers.dead_letters import DeadLetters, event_of
from consumers.delivery import delivering
from consumers.effects import Effects
from consumers.outbox import unpacked
from consumers.parcels import Message
from consumers.publisher import Publisher
from consumers.tables import outbox
from consumers.testing.log import Log, Reading
from consumers.testing.steps import Moment, Steps, watched
from runtime.clock import system_clock
from runtime.settings import Settings, load_settings
from schemas.dead_letter import ERROR, MESSAGE

DATABASE = "books.db"

# Somebody who stays away for so many tries will not come back within this test.
PATIENCE_TRIES = 1000


class DeadLetter(msgspec.Struct, frozen=True):
    """`record` as it lay in its topic, the error's class, and what it said."""

    record: Record
    error: str
    message: str


class Derived(msgspec.Struct, frozen=True):
    """What the consumer has posted to the outbox."""

    topic: str
    event_type: str
    event_id: str
    session_id: str
    value: bytes


class Trial:
    """Runs a consumer over events, without a broker, and lets its process be killed. Use it as a context manager.

    The database is a SQLite file; the transaction, the position in it, the tries, the dead letters are those of
    `ringlog consume`, only that no pause is waited for. `pauses` has what would have been, in seconds, where somebody
    asked for it (`Later.after_s`), else 0. `killed_in` says where the process was killed.
    """

    def __init__(
        self, *events: Record, partitions: int = 2, chance: Random | None = None, killed_at: int | None = None
    ) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="ringlog-trial-", ignore_cleanup_errors=True)
        self.folder = Path(self._folder.name)
        (self.folder / DATABASE).write_bytes(_migrated())
        self._settings = _settings(self.folder)
        self.engine = open_engine(self._settings)
        self._log = Log(partitions)
        self._chance = chance
        self._killed_at = killed_at
        self._letters = _Letters(self._settings)
        self.pauses: list[float] = []
        self.killed_in: str | None = None
        self.steps = 0
        self.publish(*events)

    def __enter__(self) -> "Trial":
        return self

    def __exit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _at: TracebackType | None
    ) -> None:
        self.engine.dispose()
        self._folder.cleanup()

    def __repr__(self) -> str:
        return f"<Trial killed in {self.killed_in}>" if self.killed_in else "<Trial>"

    def publish(self, *events: Record) -> None:
        """Appends them to the log, each to the partition of its key."""
        for record in events:
            self._log.append(record)

    def run(self, make: Callable[[], Consumer | Deliverer], *, killed: Moment | None = None) -> Any:
        """A process that reads to the end of the log, with the consumer that `make` makes; returns that consumer.

        With `killed`, the process dies at the first such moment, and the next `run` is the process that comes after
        it. "Before commit": a consumer's effects are rolled back; a deliverer's are made, and its position has not
        moved. Of a trial of `killed_everywhere` the process is killed where it should be, and started again.

        Raises `AssertionError` when it didn't come to that moment, and what `ringlog consume` would have stopped with.
        """
        if self._killed_at is None:
            return self._life(make, None, killed)
        at, self._killed_at = self._killed_at, None
        made = self._life(make, at, None)
        if (killed_in := self.killed_in) is not None:
            made = self._life(make, None, None)
            self.killed_in = killed_in
        return made

    def rows(self, table: Table) -> list[tuple[Any, ...]]:
        """All of them, in the order of the primary key."""
        with self.engine.connect() as tx:
            return [tuple(row) for row in tx.execute(select(table).order_by(*table.primary_key))]

    @property
    def dead_letters(self) -> list[DeadLetter]:
        return self._letters.kept

    @property
    def derived(self) -> list[Derived]:
        with self.engine.connect() as tx:
            rows = tx.scalars(select(outbox.c.packed).order_by(outbox.c.id))
            events = [event for row in rows for event in unpacked(row)]
        return [Derived(it.topic, it.event_type, it.event_id, it.session_id, it.value) for it in events]

    def _life(self, make: Callable[[], Consumer | Deliverer], at: int | None, moment: Moment | None) -> Any:
        made = own.prepared(make(), "this consumer", default_name="trial")
        if (metadata := getattr(made, "metadata", None)) is not None:
            own_tables.create(self.engine, metadata)
        steps = Steps(inspect.getfile(type(made)), at, moment)
        try:
            asyncio.run(self._to_the_end(delivering(watched(made, steps)), steps))
        except _OutOfPatience as error:
            raise AssertionError(str(error)) from error
        except BaseException:
            if steps.killed_in is None:
                raise
        self.steps, self.killed_in = steps.count, steps.killed_in
        if moment is not None and steps.killed_in is None:
            raise AssertionError(f"it came to the end of the log, and never to the moment {moment!r}")
        return made

    async def _to_the_end(self, consumer: Consumer, steps: Steps) -> None:
        def about_to_commit(_connection: Connection) -> None:
            steps.moment("before commit")

        letters = DeadLetters(self._settings, consumer.name, self._letters, system_clock)
        topics = [topic.name for topic in consumer.topics]
        reading = Reading(self._log, topics, consumer.name, self.engine, steps, self._chance)
        backoff = functools.partial(_NoPause, self.pauses)
        effects = Effects(self._settings, consumer, self.engine, letters, lambda: None, backoff)
        event.listen(self.engine, "commit", about_to_commit)
        try:
            while records := reading.poll():
                await effects.of(records, reading.epoch, reading, asyncio.Event())
        finally:
            event.remove(self.engine, "commit", about_to_commit)


class _OutOfPatience(BaseException):
    """Whoever drives a consumer goes on after any `Exception`."""


class _NoPause(Backoff):
    def __init__(self, pauses: list[float]) -> None:
        super().__init__()
        self._pauses = pauses

    async def wait(self, stop: asyncio.Event, at_least_s: float = 0.0) -> None:
        self._pauses.append(at_least_s)
        if len(self._pauses) > PATIENCE_TRIES:
            raise _OutOfPatience(f"it was tried {PATIENCE_TRIES} times, and the other side never took it")


class _Letters(Publisher):
    """Keeps them, as Kafka would."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self.kept: list[DeadLetter] = []

    async def deliver(self, messages: Sequence[Message]) -> list[RecordMetadata | BaseException]:
        places: list[RecordMetadata | BaseException] = []
        for message in messages:
            offset = len(self.kept)
            letter = Record(
                topic=message.topic,
                partition=0,
                offset=offset,
                appended_ms=0,
                key=message.key,
                value=message.value,
                headers=message.headers,
            )
            error, said = letter.header(ERROR) or "", letter.header(MESSAGE) or ""
            self.kept.append(DeadLetter(event_of(letter) or letter, error, said))
            places.append(RecordMetadata(message.topic, 0, TopicPartition(message.topic, 0), offset, 0, 0, 0))
        return places


def _settings(folder: Path) -> Settings:
    """Whatever the environment says. Every letter is kept: how many are too many is no question of a trial."""
    return load_settings(
        data_dir=folder, database_url=f"sqlite:///{folder / DATABASE}", topic_prefix="", dead_letter_share=1.0
    )


@functools.cache
def _migrated() -> bytes:
    """A database with ringlog's tables: made once, because that takes longer than most trials."""
    with tempfile.TemporaryDirectory(prefix="ringlog-trial-") as folder:
        migrate(_settings(Path(folder)))
        return (Path(folder) / DATABASE).read_bytes()
