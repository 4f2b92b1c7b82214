"""Building: events of the log become rows of the shadow, by the consumer's own code."""

import asyncio
import traceback
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence

import msgspec
from sqlalchemy import Connection, Engine, delete, func, select

from consumers import letter_book, positions
from consumers.contract import Consumer
from consumers.database import clean_text, read_only
from consumers.outage import outage
from consumers.positions import Move, Partition
from consumers.replay.log import Log
from consumers.replay.recipe import Recipe
from consumers.replay.shadow import Shadow, failures, seen, skipped
from consumers.rows import insert, insert_rows
from consumers.tables import outbox
from runtime.threads import in_thread
from schemas.check import without_checks
from schemas.event import Envelope, Record, decode_envelope, ordering
from schemas.lenient import UNREADABLE

# Told what is done now, how far it is, and of how many.
Told = Callable[[str, int, int], None]

_Place = tuple[str, int, int]


class Interrupted(Exception):
    """It was stopped before its end. What was done so far is kept, and the next one goes on from there."""


class Failure(msgspec.Struct, frozen=True):
    """An event that would be a dead letter. `place` is the line that raised: neither quotes the event."""

    topic: str
    partition: int
    offset: int
    event_id: str | None
    session_id: str | None
    error: str
    place: str


class Building:
    """Reads where the shadow's own positions say. Nothing that was read is read again, whenever it is killed."""

    def __init__(self, shadow: Shadow, consumer: Consumer, recipe: Recipe, log: Log, live: Engine) -> None:
        self._shadow = shadow
        self._consumer = consumer
        self._recipe = recipe
        self._log = log
        self._live = read_only(live)
        self._at: dict[Partition, int] = {}  # as the shadow's positions say
        self._starts: dict[Partition, int] = {}
        self._left_out: set[_Place] = set()
        self.read = 0

    async def begin(self) -> None:
        """Raises `PositionMismatch`."""
        starts = self._recipe.window.starts
        self._starts = {at: starts.get(_name(at), start) for at, start in self._log.starts.items()}
        self._at = await in_thread(self._load)
        self._log.go_to(self._starts | self._at)

    def _load(self) -> dict[Partition, int]:
        with self._shadow.engine.begin() as tx:
            return positions.load(tx, self._consumer.name, self._log.cluster_id)

    async def targets(self, tx: Connection | None = None) -> dict[Partition, int]:
        """How far the live consumer has come, within the window; by `tx`, or as it is now.

        Raises `PositionMismatch`.
        """
        stored = await in_thread(self._live_positions, tx)
        await self._log.measure()
        found: dict[Partition, int] = {}
        for partition, end in self._log.ends.items():
            if partition in stored:
                target = positions.start_of(partition, stored[partition], self._log.starts[partition], end)
                found[partition] = min(target, self._recipe.window.ends.get(_name(partition), target))
        return found

    def _live_positions(self, tx: Connection | None) -> dict[Partition, int]:
        if tx is not None:
            return positions.load(tx, self._consumer.name, self._log.cluster_id)
        with self._live.connect() as looking:
            return positions.load(looking, self._consumer.name, self._log.cluster_id)

    def behind(self, targets: Mapping[Partition, int]) -> int:
        return self._log.events_before(targets)

    async def catch_up(
        self, targets: Mapping[Partition, int], tell: Told, stop: asyncio.Event, moved: set[str] | None = None
    ) -> None:
        """Reads up to the targets, which are those of the live consumer: then the shadow has what its books have.

        Adds the sessions of what was read to `moved`. Raises `Interrupted`, `KafkaUnavailable`, and what is the
        database's own to raise; what the consumer raises becomes a failure.
        """
        given_up, redriven = await in_thread(self._letters)
        self._left_out = given_up
        for topic, partition, offset in redriven:
            record = await self._log.one((topic, partition), offset)
            if record is not None:
                _note(moved, [record])
                await in_thread(self._handle_skipped, record)
        total = self.read + self._log.events_before(targets)
        async for records in self._log.read(targets):
            await in_thread(self._handle, records)
            _note(moved, records)
            self.read += len(records)
            tell("Replaying", self.read, total)
            if stop.is_set():
                raise Interrupted

    async def look(self, targets: Mapping[Partition, int]) -> set[str]:
        """The sessions of what lies between the shadow and the targets, which is left for the next time."""
        moved: set[str] = set()
        with self._log.looking():
            async for records in self._log.read(targets):
                _note(moved, records)
        return moved

    async def beyond(self, targets: Mapping[Partition, int], stop: asyncio.Event) -> AsyncGenerator[list[Record], None]:
        """What lies after the targets, which is left for the next time. Raises `Interrupted`."""
        with self._log.looking():
            self._log.go_to(targets)
            async for records in self._log.read({partition: self._log.ends[partition] for partition in targets}):
                yield records
                if stop.is_set():
                    raise Interrupted

    def found(self, tx: Connection) -> list[Failure]:
        """What has failed, in the log's order; by a transaction of the shadow's engine."""
        places = failures.c.topic, failures.c.partition, failures.c.offset
        rows = tx.execute(select(failures).order_by(*places)).mappings()
        return [Failure(**row) for row in rows]

    def read_in_all(self, tx: Connection) -> int:
        """How many events, as far as offsets say it, this time and before."""
        at = positions.load(tx, self._consumer.name, self._log.cluster_id)
        return sum(offset - self._starts[partition] for partition, offset in at.items())

    def left_out(self, tx: Connection) -> int:
        """How many events, because the live consumer has given them up."""
        return tx.execute(select(func.count()).select_from(skipped)).scalar_one()

    def _letters(self) -> tuple[set[_Place], list[_Place]]:
        """What the live books lack, and what was left out here and they have by now."""
        with self._live.connect() as looking:
            letters = letter_book.find(looking, self._consumer.name, settled=True)
        with self._shadow.engine.begin() as tx:
            were_out = {(row.topic, row.partition, row.offset) for row in tx.execute(select(skipped))}
        places = {(it.topic, it.partition, it.offset): it.outcome for it in letters}
        given_up = {place for place, outcome in places.items() if outcome != "redriven"}
        return given_up, sorted(place for place in were_out if place not in given_up)

    def _handle(self, records: Sequence[Record]) -> None:
        """All in one transaction or, when one of them fails, each in its own."""
        try:
            self._transaction(records)
        except Exception as error:
            if outage(error):
                raise
            for record in records:
                self._one(record)

    def _one(self, record: Record) -> None:
        try:
            self._transaction([record])
        except Exception as error:
            if outage(error):
                raise
            self._transaction([record], self._failure(record, error))

    def _transaction(self, records: Sequence[Record], failure: Failure | None = None) -> None:
        name = self._consumer.name
        moves = self._moves(records)
        with self._shadow.engine.begin() as tx:
            positions.advance(tx, name, self._log.cluster_id, moves)
            if failure is None:
                out = [record for record in records if _place(record) in self._left_out]
                handled = [record for record in without_checks(records) if _place(record) not in self._left_out]
                self._consumer.handle(tx, handled)
                insert_rows(tx, skipped, [_place_row(record) for record in out])
                tx.execute(delete(outbox))  # the live consumer has said it
                self._remember(tx, records)
            else:
                insert_rows(tx, failures, [msgspec.structs.asdict(failure)])
        self._at |= {(move.topic, move.partition): move.next for move in moves}

    def _handle_skipped(self, record: Record) -> None:
        """An event that was redriven live after it had been left out here."""
        failure: Failure | None = None
        here = [skipped.c[name] == value for name, value in _place_row(record).items()]
        try:
            with self._shadow.engine.begin() as tx:
                self._consumer.handle(tx, [record])
                tx.execute(delete(outbox))
                tx.execute(delete(skipped).where(*here))
        except Exception as error:
            if outage(error):
                raise
            failure = self._failure(record, error)
        if failure is not None:
            with self._shadow.engine.begin() as tx:
                insert_rows(tx, failures, [msgspec.structs.asdict(failure)])
                tx.execute(delete(skipped).where(*here))

    def _remember(self, tx: Connection, records: Sequence[Record]) -> None:
        """What was read, where not all is: by it a call is known to be whole."""
        if not self._recipe.window.partial:
            return
        earliest: dict[str, int] = {}
        for record in records:
            if (envelope := _opened(record)) is not None:
                _, received_at, id_ = ordering(envelope, record.appended_ms)
                earliest[id_] = min(received_at, earliest.get(id_, received_at))
        if not earliest:
            return
        statement = insert(tx, seen)
        sooner = statement.excluded.received_at < seen.c.received_at
        statement = statement.on_conflict_do_update(
            index_elements=["event_id"], set_={"received_at": statement.excluded.received_at}, where=sooner
        )
        tx.execute(statement, [{"event_id": id_, "received_at": at} for id_, at in sorted(earliest.items())])

    def _moves(self, records: Sequence[Record]) -> list[Move]:
        last = {(record.topic, record.partition): record.offset for record in records}
        return [Move(*partition, self._at.get(partition), offset + 1) for partition, offset in last.items()]

    def _failure(self, record: Record, error: Exception) -> Failure:
        envelope = _opened(record)
        return Failure(
            topic=record.topic,
            partition=record.partition,
            offset=record.offset,
            event_id=None if envelope is None else envelope.event_id,
            session_id=None if envelope is None else clean_text(envelope.session_id),
            error=type(error).__name__,
            place=_where(error),
        )


def _note(moved: set[str] | None, records: Sequence[Record]) -> None:
    if moved is not None:
        moved |= {clean_text(envelope.session_id) for it in records if (envelope := _opened(it)) is not None}


def _opened(record: Record) -> Envelope | None:
    """None for what is no event of ours: it has no effect on any session."""
    try:
        return decode_envelope(record.value or b"")
    except UNREADABLE:
        return None


def _where(error: Exception) -> str:
    """The last line of ours that it came through."""
    frames = traceback.extract_tb(error.__traceback__)
    mine = [frame for frame in frames if "site-packages" not in frame.filename]
    last = (mine or frames)[-1]
    return f"{last.filename.rpartition('/')[2]}:{last.lineno}"


def _place(record: Record) -> _Place:
    return record.topic, record.partition, record.offset


def _place_row(record: Record) -> dict[str, str | int]:
    return {"topic": record.topic, "partition": record.partition, "offset": record.offset}


def _name(partition: Partition) -> str:
    topic, number = partition
    return f"{topic}/{number}"
