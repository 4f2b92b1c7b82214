"""Every body of a session that a consumer has seen: which one counts depends on all of them."""

import itertools
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

import msgspec
from sqlalchemy import Connection, func, select

from consumers.rows import among, insert_new, insert_rows
from consumers.tables import revisions, sessions

# Rows of a long look that are in memory at once.
_ROWS_A_FETCH = 2_000

COLUMNS = tuple(revisions.c[name] for name in ("event_id", "received_at", "content", "recovered"))  # of a `Revision`


class Revision(msgspec.Struct, frozen=True):
    """`received_at` in microseconds since the epoch, and whether `recovered`, as `schemas.event.ordering` has it.

    `content` is what matters to the consumer. It must follow from the event and from settings, and from no other event:
    billing keeps the value of the metadata key that the file of plans names. Where an id comes again with another
    content, that of the earliest counts; what was read under other settings stays as it was read.
    """

    event_id: str
    received_at: int
    content: bytes
    recovered: bool = False

    @property
    def order(self) -> tuple[bool, int, str]:
        """As `schemas.event.ordering`."""
        return not self.recovered, self.received_at, self.event_id


class Recorded(msgspec.Struct, frozen=True):
    """`changed`: all revisions of each session where anything changed, in their order: the last one counts. `known`: of
    which of these there were any before; of the others a consumer has written nothing yet.
    """

    changed: dict[str, list[Revision]]
    known: set[str]


def record(tx: Connection, consumer: str, seen: Mapping[str, Sequence[Revision]]) -> Recorded:
    """Stores what is new of the sessions in `seen` and locks them until the end of the transaction.

    A repeated id keeps its earliest time. The result depends on the set of all revisions ever seen and not on their
    order or batches. A session of which nothing was known, as most are, costs no look at any table. Session ids must
    have been through `clean_text`.
    """
    known = _lock(tx, consumer, seen)
    times = known_events(tx, consumer, known)
    news = {session: _news(found, times.get(session, {})) for session, found in seen.items()}
    news = {session: new for session, new in news.items() if new}
    _store(tx, consumer, news, known)
    stored = _stored(tx, consumer, [session for session in news if session in times])
    changed = {session: _ordered(stored.get(session) or new) for session, new in news.items()}
    return Recorded(changed, known & news.keys())


def of_session(tx: Connection, consumer: str, session_id: str) -> list[Revision]:
    """In their order; empty when nothing is known of the session."""
    return _ordered(_stored(tx, consumer, [session_id]).get(session_id, []))


def every(tx: Connection, consumer: str) -> Iterator[tuple[str, list[Revision]]]:
    """All sessions, one after the other, each with its revisions in their order. Streamed: memory stays flat."""
    query = (
        select(revisions.c.session_id, *COLUMNS)
        .where(revisions.c.consumer == consumer)
        .order_by(revisions.c.session_id)
    )
    rows = tx.execute(query.execution_options(yield_per=_ROWS_A_FETCH))
    for session_id, of_it in itertools.groupby(rows, lambda row: row.session_id):
        yield session_id, _ordered(Revision(*revision) for _, *revision in of_it)


def count_sessions(tx: Connection, consumer: str) -> int:
    mine = sessions.c.consumer == consumer
    return tx.execute(select(func.count()).select_from(sessions).where(mine)).scalar_one()


def known_sessions(tx: Connection, consumer: str, session_ids: Iterable[str]) -> set[str]:
    """Those of them of which anything is known."""
    mine = (sessions.c.consumer == consumer) & among(tx, sessions.c.session_id, session_ids)
    return set(tx.scalars(select(sessions.c.session_id).where(mine)))


def known_events(tx: Connection, consumer: str, session_ids: Collection[str]) -> dict[str, dict[str, int]]:
    """Session -> event id -> received_at, of those of which anything is known. Without the contents."""
    found: dict[str, dict[str, int]] = {}
    if not session_ids:
        return found
    columns = revisions.c.session_id, revisions.c.event_id, revisions.c.received_at
    mine = (revisions.c.consumer == consumer) & among(tx, revisions.c.session_id, session_ids)
    for session, event_id, received_at in tx.execute(select(*columns).where(mine)):
        found.setdefault(session, {})[event_id] = received_at
    return found


def _lock(tx: Connection, consumer: str, session_ids: Iterable[str]) -> set[str]:
    """Which of them were there already.

    Writing the row locks it, also for one that writes it at the same time. First those that are not there, then those
    that are, both in one order: no deadlocks. Who waits for one that is not there holds none that is. (While an upgrade
    rolls, a process of a version that had another order may meet one: PostgreSQL ends a transaction, which is tried
    again.)
    """
    rows = [{"consumer": consumer, "session_id": session} for session in sorted(session_ids)]
    new = set(insert_new(tx, sessions, rows, sessions.c.session_id))
    known = [row for row in rows if row["session_id"] not in new]
    insert_rows(tx, sessions, known, replacing=["session_id"])
    return {row["session_id"] for row in known}


def _news(found: Sequence[Revision], times: Mapping[str, int]) -> list[Revision]:
    """The earliest of each id, when it is not known, or known only from later."""
    earliest: dict[str, Revision] = {}
    for revision in found:
        best = earliest.get(revision.event_id)
        if best is None or revision.received_at < best.received_at:
            earliest[revision.event_id] = revision
    return [new for new in earliest.values() if new.event_id not in times or new.received_at < times[new.event_id]]


def _store(tx: Connection, consumer: str, news: Mapping[str, Sequence[Revision]], known: Collection[str]) -> None:
    first: list[dict[str, Any]] = []
    further: list[dict[str, Any]] = []
    for session, found in news.items():
        rows = further if session in known else first
        rows += [_row(consumer, session, new) for new in found]
    insert_rows(tx, revisions, first)
    # The content too: the same body may have come to another caller, when our user named other numbers his own.
    insert_rows(tx, revisions, further, replacing=["received_at", "content"])


def _row(consumer: str, session: str, new: Revision) -> dict[str, Any]:
    return {
        "consumer": consumer,
        "session_id": session,
        "event_id": new.event_id,
        "received_at": new.received_at,
        "content": new.content,
        "recovered": new.recovered,
    }


def _stored(tx: Connection, consumer: str, session_ids: Collection[str]) -> dict[str, list[Revision]]:
    found: dict[str, list[Revision]] = {}
    if not session_ids:
        return found
    mine = (revisions.c.consumer == consumer) & among(tx, revisions.c.session_id, session_ids)
    for session, *revision in tx.execute(select(revisions.c.session_id, *COLUMNS).where(mine)):
        found.setdefault(session, []).append(Revision(*revision))
    return found


def _ordered(found: Iterable[Revision]) -> list[Revision]:
    return sorted(found, key=lambda revision: revision.order)
