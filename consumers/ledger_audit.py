"""The ledger against the log: what `calls.ended` says is computed anew, and compared with the tables."""

import asyncio
from collections.abc import Callable, Mapping
from contextlib import ExitStack

import msgspec
from sqlalchemy import Connection, Engine

from consumers import letter_book, positions
from consumers.bills import BILLING
from consumers.database import read_only, snapshot
from consumers.log_reader import LogReader
from consumers.positions import Partition, PositionMismatch
from consumers.recomputed_ledger import RecomputedLedger
from consumers.rereading import refuse_rereading
from runtime.settings import Settings
from runtime.threads import in_thread
from schemas.topics import CALLS_ENDED

# While so many are read the tables can wait, as they are at that moment: it is a second's work.
SMALL_REST = 2_000

# Each round reads what billing has read during the last one. One that is always ahead by more is followed no further.
ROUNDS = 20

KEPT_DIFFERENCES = 100

# Told what is done now, how far it is, and of how many.
Told = Callable[[str, int, int], None]


class Difference(msgspec.Struct, frozen=True):
    session_id: str
    what: str


class Audit(msgspec.Struct):
    """`events` were read, of `sessions`. `different` counts what differs, `differences` are the first of it.

    `unread` events of the log billing has not been through yet, and `unreadable` ones it can't read. In
    `in_dead_letters` is what differs because an event of that session is given up, and not redriven.
    """

    events: int = 0
    sessions: int = 0
    unread: int = 0
    unreadable: int = 0
    different: int = 0
    differences: list[Difference] = []
    in_dead_letters: int = 0


class Interrupted(Exception):
    """It was stopped before its end."""


async def audit(settings: Settings, engine: Engine, stop: asyncio.Event, tell: Told) -> Audit:
    """Reads the log as far as billing has come, and compares what it says with the tables as they are at that point.

    In memory are a batch of events and a thousand sessions. What is computed from the log lies in a temporary SQLite
    file until the end.

    Raises `KafkaUnavailable`, `PositionMismatch` and `Interrupted`.
    """
    found = Audit()
    with ExitStack() as stack:
        ledger = stack.enter_context(RecomputedLedger.open())
        async with LogReader(settings, CALLS_ENDED.named(settings.topic_prefix)) as log:
            _refuse_forgotten(log)
            for _ in range(ROUNDS):
                with read_only(engine).connect() as tx:
                    targets = await _targets(tx, log)
                before = found.events
                await _read(log, targets, ledger, found, stop, tell)
                if found.events - before <= SMALL_REST:
                    break
            books = await in_thread(stack.enter_context, snapshot(engine))
            targets = await _targets(books, log)
            await _read(log, targets, ledger, found, stop, tell)
            found.unread = sum(log.ends.values()) - sum(log.at.values())
            await in_thread(_compare, ledger, books, found, stop, tell)
            if found.different:
                with ledger.connected() as computed:
                    await refuse_rereading(BILLING, log.read(log.ends), books, computed)
    return found


def _refuse_forgotten(log: LogReader) -> None:
    for (topic, number), start in log.starts.items():
        if start:
            raise PositionMismatch(
                f"the log can't say what the ledger must be: {topic}/{number} begins at {start}, and has forgotten what"
                " was before"
            )


async def _targets(tx: Connection, log: LogReader) -> dict[Partition, int]:
    """How far billing has come. The ends are asked for afterwards, so that it can't be beyond them."""
    stored = await in_thread(positions.load, tx, BILLING, log.cluster_id)
    await log.measure()
    return {
        partition: positions.start_of(partition, stored[partition], log.starts[partition], end)
        for partition, end in log.ends.items()
        if partition in stored
    }


async def _read(
    log: LogReader,
    targets: Mapping[Partition, int],
    ledger: RecomputedLedger,
    found: Audit,
    stop: asyncio.Event,
    tell: Told,
) -> None:
    total = found.events + log.events_before(targets)
    async for records in log.read(targets):
        await in_thread(ledger.add, records)
        found.events += len(records)
        tell("Reading the log", found.events, total)
        if stop.is_set():
            raise Interrupted


def _compare(ledger: RecomputedLedger, books: Connection, found: Audit, stop: asyncio.Event, tell: Told) -> None:
    found.sessions, found.unreadable = ledger.sessions(), ledger.unreadable
    letters = letter_book.find(books, BILLING, settled=True)
    given_up = {letter.session_id for letter in letters if letter.outcome != "redriven"}
    looked_at = 0

    def seen(sessions: int) -> None:
        nonlocal looked_at
        looked_at += sessions
        tell("Comparing", looked_at, found.sessions)
        if stop.is_set():
            raise Interrupted

    for session_id, what in ledger.differences(books, seen):
        if session_id in given_up:
            found.in_dead_letters += 1
            continue
        found.different += 1
        if len(found.differences) < KEPT_DIFFERENCES:
            found.differences.append(Difference(session_id, what))
