"""A rolling upgrade: a process of the version before locks sessions in another order, and a batch waits, no more.

Now the sessions that nobody knew are written first, and then those that are known are locked; before, all of them in
the order of their names. So two transactions may hold what the other wants, and PostgreSQL ends one of them (40P01).
"""

import asyncio
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import psycopg
import pytest
from sqlalchemy import Connection, Engine, event, select, text
from sqlalchemy.exc import DBAPIError

from consumers.billing import Billing
from consumers.database import migrate, open_engine
from consumers.dead_letters import DeadLetters
from consumers.effects import Effects
from consumers.positions import Move
from consumers.publisher import Publisher
from consumers.rows import insert_rows
from consumers.tables import billing_entries, dead_letters, positions, revisions, sessions
from runtime.clock import system_clock
from runtime.metrics import RETRIES
from runtime.settings import load_settings
from schemas.event import Record
from tests.ended_calls import ended
from tests.posted import events_in

# Whose patience ends first looks for the deadlock, and is the one whose transaction is ended.
SOON, NEVER = "2s", "1h"

KNOWN, NEW = "s-1", "s-2"  # the names' order is that of the version before


def costs(session: str, at: int, credit: str) -> Record:
    return ended(session, at, {"at": at, "cost_breakdown": [{"type": "llm", "credit": credit}]}, offset=at)


BEFORE = [costs(KNOWN, 0, "0.5")]
OURS = [costs(KNOWN, 1, "0.7"), costs(NEW, 2, "0.1")]
THEIRS = [costs(KNOWN, 3, "0.8"), costs(NEW, 4, "0.3")]


class Reading:
    """A partition that nobody takes from us. A `consumers.progress.Progress`."""

    epoch = 1
    cluster_id = "cluster"

    def moves(self, records: Sequence[Record]) -> list[Move]:
        return [Move("calls.ended", 0, None, records[-1].offset + 1)]

    def moved(self, moves: Sequence[Move]) -> None:
        """The test looks into the table."""

    def committing(self) -> AbstractContextManager[None]:
        return nullcontext()


class TheVersionBefore:
    """One transaction of one of its processes, tried again as its runner does. It begins when it is `due`."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.due = threading.Event()
        self.holds_one = threading.Event()
        self.ended = 0  # by PostgreSQL

    def run(self, records: Sequence[Record]) -> None:
        assert self.due.wait(30), "the other process locked no session that is known"
        while True:
            try:
                with self._engine.begin() as tx:
                    self._lock(tx)
                    Billing().handle(tx, records)
                return
            except DBAPIError as error:
                assert isinstance(error.orig, psycopg.errors.DeadlockDetected)
                self.ended += 1

    def _lock(self, tx: Connection) -> None:
        """All in one order. After the first one the other process goes on, until it waits for it."""
        for session in sorted((KNOWN, NEW)):
            insert_rows(tx, sessions, [{"consumer": "billing", "session_id": session}], replacing=["session_id"])
            if not self.holds_one.is_set():
                self.holds_one.set()
                self._until_somebody_waits()

    def _until_somebody_waits(self) -> None:
        deadline = time.monotonic() + 30
        waiting = text(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
        )
        while time.monotonic() < deadline:
            with self._engine.connect() as looking:
                if looking.scalar(waiting):
                    return
            time.sleep(0.02)
        raise AssertionError("nobody waits for what is locked here")


class NoLetters(Publisher):
    async def deliver(self, messages: Sequence[Any]) -> Any:
        raise AssertionError("an event was given up")


@contextmanager
def opened(url: str, patience: str = SOON) -> Iterator[Engine]:
    of_this_test = load_settings(database_url=url)
    migrate(of_this_test)
    engine = open_engine(of_this_test)

    @event.listens_for(engine, "connect")
    def be_patient(connection: psycopg.Connection[Any], _record: object) -> None:
        connection.execute(f"SET deadlock_timeout = '{patience}'".encode())
        connection.commit()

    yield engine
    engine.dispose()


def meet(engine: Engine, other: TheVersionBefore) -> None:
    """The other begins when we have written the sessions that are new, and are about to lock those that are known."""

    @event.listens_for(engine, "before_cursor_execute")
    def wait_for_the_other(_c: object, _cursor: object, statement: str, *_: object) -> None:
        if statement.startswith("INSERT INTO sessions") and "DO UPDATE" in statement and not other.due.is_set():
            other.due.set()
            assert other.holds_one.wait(30)


def handled(engine: Engine, records: Sequence[Record]) -> None:
    with engine.begin() as tx:
        Billing().handle(tx, records)


def books(engine: Engine) -> list[list[Any]]:
    with engine.connect() as tx:
        return [
            [tuple(row) for row in tx.execute(select(table).order_by(*table.primary_key))]
            for table in (billing_entries, revisions, sessions)
        ]


def tried_again(reason: str) -> float:
    found: float = RETRIES.labels("billing", reason)._value.get()
    return found


@pytest.mark.parametrize(("ours", "theirs"), [(SOON, NEVER), (NEVER, SOON)], ids=["ours is ended", "theirs is ended"])
async def test_deadlock_of_two_versions_costs_a_try_and_changes_no_book(
    new_database: Callable[[], str], ours: str, theirs: str
) -> None:
    by_database, by_error = tried_again("database"), tried_again("error")
    url = new_database()
    with opened(url, ours) as engine, opened(url, theirs) as of_another, opened(new_database()) as in_turn:
        handled(engine, BEFORE)
        other = TheVersionBefore(of_another)
        meet(engine, other)
        running = asyncio.create_task(asyncio.to_thread(other.run, THEIRS))
        settings = load_settings()
        letters = DeadLetters(settings, "billing", NoLetters(settings), system_clock)
        effects = Effects(settings, Billing(), engine, letters, lambda: None)
        await effects.of(OURS, Reading.epoch, Reading(), asyncio.Event())
        await running

        was_ours = ours == SOON
        assert (tried_again("database") - by_database, other.ended) == ((1, 0) if was_ours else (0, 1))
        assert tried_again("error") == by_error, "no event was to blame, and none was tried by itself"
        assert effects.outage is None
        with engine.connect() as tx:
            assert tx.scalar(select(positions.c.next_offset)) == OURS[-1].offset + 1
            assert tx.execute(select(dead_letters)).all() == []
        handled(in_turn, [*BEFORE, *OURS, *THEIRS])
        assert books(engine) == books(in_turn)
        ids = [posted.event_id for posted in events_in(engine, "billing")]
        assert len(ids) == len(set(ids))
