"""Counts the calls that began in each minute, by agent; rightly, whatever comes late, twice or is revised."""

from collections import Counter
from collections.abc import Sequence

import msgspec
from sqlalchemy import BigInteger, Column, Connection, Integer, MetaData, Table, Text, delete, select

from consumers import revisions
from consumers.calls import EndedCall, ended_call
from consumers.contract import Record
from consumers.rows import among, insert, upsert
from schemas.topics import CALLS_ENDED

MINUTE_US = 60_000_000

metadata = MetaData()  # of our own: its tables are made when the consumer starts

# The result. `minute` is its beginning, in microseconds since the epoch.
calls_per_minute = Table(
    "calls_per_minute",
    metadata,
    Column("minute", BigInteger, primary_key=True),
    Column("agent", Text, primary_key=True),
    Column("calls", Integer, nullable=False),
)

# The state: in which window each session is counted.
counted_sessions = Table(
    "counted_sessions",
    metadata,
    Column("session_id", Text, primary_key=True),
    Column("minute", BigInteger, nullable=False),
    Column("agent", Text, nullable=False),
)


class Window(msgspec.Struct, frozen=True, order=True):
    minute: int
    agent: str


class CallsPerMinute:
    name = "calls-per-minute"
    topics = (CALLS_ENDED,)
    metadata = metadata

    def handle(self, tx: Connection, records: Sequence[Record]) -> None:
        calls = [ended_call(record) for record in records]
        seen: dict[str, list[revisions.Revision]] = {}
        for call in calls:
            seen.setdefault(call.session_id, []).append(call.revision(msgspec.json.encode(_window(call))))
        # Stores what is new, and locks the sessions: another process may have a revision of one of them.
        changed = revisions.record(tx, self.name, seen).changed
        now = {session: msgspec.json.decode(history[-1].content, type=Window) for session, history in changed.items()}
        before = _counted(tx, now)
        _count(tx, Counter(now.values()), Counter(before.values()))
        rows = [{"session_id": session, **msgspec.structs.asdict(window)} for session, window in now.items()]
        upsert(tx, counted_sessions, rows)


def _window(call: EndedCall) -> Window:
    began = call.body.started_at_us or call.received_at
    return Window(began - began % MINUTE_US, call.agent_id or "")


def _counted(tx: Connection, sessions: dict[str, Window]) -> dict[str, Window]:
    """In which windows those of them are counted that are counted at all."""
    rows = tx.execute(select(counted_sessions).where(among(tx, counted_sessions.c.session_id, sessions)))
    return {row.session_id: Window(row.minute, row.agent) for row in rows}


def _count(tx: Connection, more: Counter[Window], fewer: Counter[Window]) -> None:
    more.subtract(fewer)  # a session that stays where it was cancels out
    table = calls_per_minute
    # In one order, because an update locks: no deadlock with another process.
    for window, calls in sorted(more.items()):
        statement = insert(tx, table).values(**msgspec.structs.asdict(window), calls=calls)
        add = {"calls": table.c.calls + statement.excluded.calls}
        tx.execute(statement.on_conflict_do_update(index_elements=[table.c.minute, table.c.agent], set_=add))
    if fewer:
        tx.execute(delete(table).where(table.c.calls == 0))
