"""The ledger as the log says it, computed anew beside the database, and compared with it."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from sqlalchemy import URL, Connection, Engine, Table, select

from consumers import revisions
from consumers.billing import Entries, entries_of, postings_of, stored_entries
from consumers.bills import BILLING, bill_of, call_of, encoded
from consumers.calls import ended_call
from consumers.contract import UnreadableEvent
from consumers.database import engine_of, snapshot
from consumers.plan_charges import charge_row, charges_of, stored_terms
from consumers.revisions import Revision
from consumers.tables import billing_entries, metadata, plan_charges
from consumers.terms import Terms
from schemas.check import without_checks
from schemas.event import Record
from schemas.money import credits_text

_SESSIONS_A_LOOK = 1000

# What follows from the log and from the terms that a row names. The metadata's value doesn't: which key it is of was
# the file's to say; nor do the event and its time, which may be those of a body that changed that value.
_OF_A_CHARGE = (
    "plan valid_from currency state amount_micros billed_s minutes_micros per_call_micros passed_on_micros called_at"
    " agent_id caller_id"
).split()

_Row = dict[str, Any]

# A session, and what is wrong with it: a sentence.
Found = Iterator[tuple[str, str]]


class RecomputedLedger:
    """Keeps the revisions that the log says in a database of its own, by the same code as the consumer's."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.unreadable = 0

    @classmethod
    @contextmanager
    def open(cls) -> Iterator["RecomputedLedger"]:
        """In a temporary SQLite file, which is gone afterwards."""
        with TemporaryDirectory(prefix="ringlog-verify-") as folder:
            engine = engine_of(URL.create("sqlite", database=str(Path(folder) / "log.db")))
            metadata.create_all(engine, tables=[metadata.tables["sessions"], metadata.tables["revisions"]])
            try:
                yield cls(engine)
            finally:
                engine.dispose()

    def add(self, records: Sequence[Record]) -> None:
        """Goes past what billing can't read: its dead letters have it. A check is no call."""
        seen: dict[str, list[Revision]] = {}
        for record in without_checks(records):
            try:
                call = ended_call(record)
                revision = call.revision(encoded(bill_of(call)))
            except UnreadableEvent:
                self.unreadable += 1
            else:
                seen.setdefault(call.session_id, []).append(revision)
        with self._engine.begin() as tx:
            revisions.record(tx, BILLING, seen)

    @contextmanager
    def connected(self) -> Iterator[Connection]:
        """To read what was kept, where the revisions of the books are."""
        with self._engine.connect() as tx:
            yield tx

    def sessions(self) -> int:
        with self._engine.connect() as tx:
            return revisions.count_sessions(tx, BILLING)

    def differences(self, books: Connection, seen: Callable[[int], None]) -> Found:
        """What the tables say otherwise. `seen` is told how many sessions were looked at since it was told last."""
        with snapshot(self._engine) as log:
            for some in _portions(revisions.every(log, BILLING)):
                yield from _different_entries(some, stored_entries(books, some))
                yield from _different_charges(some, books)
                seen(len(some))
        for table in (billing_entries, plan_charges):
            yield from self._unknown_to_the_log(books, table)

    def _unknown_to_the_log(self, books: Connection, table: Table) -> Found:
        query = select(table.c.session_id).distinct().execution_options(yield_per=_SESSIONS_A_LOOK)
        with self._engine.connect() as log:
            for some in books.execute(query).scalars().partitions():
                known = revisions.known_sessions(log, BILLING, some)
                for session_id in some:
                    if session_id not in known:
                        yield session_id, f"{table.name} has it, and the log has no call of that session"


def _different_entries(histories: Mapping[str, Sequence[Revision]], stored: Mapping[str, Entries]) -> Found:
    for session_id, history in histories.items():
        due, there = entries_of(session_id, postings_of(history)), stored.get(session_id, {})
        if due != there:
            yield session_id, _what_differs(due, there)


def _what_differs(due: Entries, there: Entries) -> str:
    says, has = (sum(row["amount_micros"] for row in rows.values()) for rows in (due, there))
    if says != has:
        return f"the entries add up to {credits_text(has)}, and the log says {credits_text(says)}"
    lacks, surplus = len(due.keys() - there.keys()), len(there.keys() - due.keys())
    if lacks or surplus:
        return f"{lacks} entries are missing and {surplus} too many; the sum is right"
    key = next(key for key in due if due[key] != there[key])
    return (
        f"the entry of event {key[0]} for {key[1]} by {key[2]} is another: {_columns(due[key], there[key], due[key])}"
    )


def _different_charges(histories: Mapping[str, Sequence[Revision]], books: Connection) -> Found:
    stored = charges_of(books, histories)
    terms: dict[str, Terms] = stored_terms(books, sorted({row["terms"] for row in stored.values()}))
    for session_id, there in stored.items():
        due = charge_row(session_id, call_of(histories[session_id]), terms[there["terms"]])
        if different := _columns(due, there, _OF_A_CHARGE):
            yield session_id, f"the plan charge is another: {different}"


def _columns(due: _Row, there: _Row, names: Iterable[str]) -> str:
    different = (name for name in names if due[name] != there[name])
    return ", ".join(f"{name} is {there[name]!r} and should be {due[name]!r}" for name in different)


def _portions(histories: Iterable[tuple[str, list[Revision]]]) -> Iterator[dict[str, list[Revision]]]:
    portion: dict[str, list[Revision]] = {}
    for session_id, history in histories:
        portion[session_id] = history
        if len(portion) == _SESSIONS_A_LOOK:
            yield portion
            portion = {}
    if portion:
        yield portion
