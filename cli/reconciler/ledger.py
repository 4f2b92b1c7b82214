"""What the books lack, what the provider has been asked for, and how far its list was read."""

from collections.abc import Collection, Mapping, Sequence

from sqlalchemy import ColumnElement, Connection, or_, select

from consumers.call_log import CallLog
from consumers.overdue import MAX_ASKED, is_overdue
from consumers.rows import upsert
from consumers.tables import billing_entries, call_log, positions, reconciled, reconciliations

# What the provider does not know now it may know later today, and hardly after three days.
ASK_AGAIN_S = 6 * 3600.0

# From when on after its end, and until when, a call is asked for whose cost is still unknown.
UNPRICED_AFTER_S = 900.0
UNPRICED_FOR_S = 3 * 86_400.0

RECOVERED = "recovered"

Place = tuple[int, str]  # a time in microseconds, and a session
START: Place = (0, "")

_LIST = "list"


def overdue(tx: Connection, before_us: int, now_us: int, limit: int, after: Place) -> Sequence[Place]:
    """Calls that were announced before and have no end, the oldest first, behind `after`."""
    log = call_log.c
    return _to_ask(tx, log.prefetched_at, is_overdue(before_us), now_us, limit, after)


def unpriced(tx: Connection, now_us: int, limit: int, after: Place) -> Sequence[Place]:
    """Calls that have ended, and whose cost nobody has told, the oldest first, behind `after`."""
    log = call_log.c
    time = log.ended_at.between(now_us - _us(UNPRICED_FOR_S), now_us - _us(UNPRICED_AFTER_S))
    billed = select(billing_entries.c.session_id).where(billing_entries.c.session_id == log.session_id).exists()
    return _to_ask(tx, log.ended_at, time & ~billed, now_us, limit, after)


def complete(tx: Connection, session_ids: Collection[str]) -> set[str]:
    """Those of them whose end is known, or was published by us and is about to be."""
    has_ended = call_log.c.session_id.in_(session_ids) & call_log.c.ended_at.is_not(None)
    was_recovered = reconciliations.c.session_id.in_(session_ids) & (reconciliations.c.said == RECOVERED)
    known = tx.execute(select(call_log.c.session_id).where(has_ended)).scalars().all()
    return {*known, *tx.execute(select(reconciliations.c.session_id).where(was_recovered)).scalars()}


def note(tx: Connection, said: Mapping[str, str], now_us: int) -> None:
    """That these sessions were asked for, and what was said of each."""
    asked = reconciliations.c
    mine = asked.session_id.in_(list(said))
    before = {row.session_id: row.asked for row in tx.execute(select(asked.session_id, asked.asked).where(mine))}
    rows = [
        {"session_id": session_id, "asked": before.get(session_id, 0) + 1, "asked_at": now_us, "said": word}
        for session_id, word in sorted(said.items())
    ]
    upsert(tx, reconciliations, rows)


def read_until(tx: Connection) -> int | None:
    """Until when the provider's list has been read, in microseconds; None before the first time."""
    return tx.execute(select(reconciled.c.until).where(reconciled.c.what == _LIST)).scalar_one_or_none()


def read_to(tx: Connection, until_us: int) -> None:
    upsert(tx, reconciled, [{"what": _LIST, "until": until_us}])


def events_behind(tx: Connection, ends: Mapping[tuple[str, int], int]) -> int:
    """How many events the log of calls has still to read, before these ends."""
    at = positions.c
    rows = tx.execute(select(at.topic, at.partition, at.next_offset).where(at.consumer == CallLog.name))
    read = {(topic, partition): offset for topic, partition, offset in rows}
    return sum(max(0, end - read.get(place, 0)) for place, end in ends.items())


def _to_ask(
    tx: Connection, time: ColumnElement[int], wanted: ColumnElement[bool], now_us: int, limit: int, after: Place
) -> Sequence[Place]:
    """Not those that were asked for lately, or so often that they were given up."""
    asked = reconciliations.c
    rested = (asked.asked_at < now_us - _us(ASK_AGAIN_S)) & (asked.asked < MAX_ASKED)
    further = (time > after[0]) | ((time == after[0]) & (call_log.c.session_id > after[1]))
    found = (
        select(time, call_log.c.session_id)
        .outerjoin(reconciliations, asked.session_id == call_log.c.session_id)
        .where(wanted, further, or_(asked.session_id.is_(None), rested))
        .order_by(time, call_log.c.session_id)
        .limit(limit)
    )
    return [(at, session_id) for at, session_id in tx.execute(found)]


def _us(seconds: float) -> int:
    return round(seconds * 1_000_000)
