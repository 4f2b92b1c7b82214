"""Which calls lack their end, and which of them the provider has been asked for."""

from collections.abc import Collection, Mapping, Sequence

from sqlalchemy import Connection, or_, select

from consumers.database import upsert
from consumers.overdue import is_overdue
from consumers.tables import call_log, reconciliations

# What the provider does not know today it will hardly know tomorrow: it is asked for three days, and then no more.
ASK_AGAIN_S = 6 * 3600.0
MAX_ASKED = 12


def to_ask(
    tx: Connection, overdue_before_us: int, now_us: int, limit: int, after: tuple[int, str]
) -> Sequence[tuple[int, str]]:
    """Time and session of overdue calls, the oldest first, behind `after`: not asked for lately, nor too often."""
    log, asked = call_log.c, reconciliations.c
    further = (log.prefetched_at > after[0]) | ((log.prefetched_at == after[0]) & (log.session_id > after[1]))
    rested = (asked.asked_at < now_us - round(ASK_AGAIN_S * 1_000_000)) & (asked.asked < MAX_ASKED)
    found = (
        select(log.prefetched_at, log.session_id)
        .outerjoin(reconciliations, asked.session_id == log.session_id)
        .where(is_overdue(overdue_before_us), further, or_(asked.session_id.is_(None), rested))
        .order_by(log.prefetched_at, log.session_id)
        .limit(limit)
    )
    return [(at, session_id) for at, session_id in tx.execute(found)]


def ended(tx: Connection, session_ids: Collection[str]) -> set[str]:
    """Those of them whose end is known."""
    has_ended = call_log.c.session_id.in_(session_ids) & call_log.c.ended_at.is_not(None)
    return set(tx.execute(select(call_log.c.session_id).where(has_ended)).scalars())


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
