"""What is said to others of books that a swap changes: once, by the outbox of the live consumer."""

from collections.abc import Iterator, Mapping, Sequence

from sqlalchemy import Connection, Table, select

from consumers import billing, transcripts
from consumers.outbox import OutboxEvent
from consumers.replay.shadow import Shadow, differences
from consumers.revisions import COLUMNS, Revision
from consumers.rows import among
from consumers.tables import revisions

_SESSIONS_A_LOOK = 500

# The tables whose rows the derived events of a consumer tell of.
_TOLD = {
    "billing": ("billing_entries",),
    "transcripts": ("transcripts", "transcript_turns", "transcript_function_calls"),
}


def corrections(tx: Connection, shadow: Shadow, replay: str) -> Iterator[list[OutboxEvent]]:
    """Of the sessions that differ, in portions. `tx` is of `shadow.joint`, and has not replaced anything yet.

    A stored sound is the same before and after, and the log of calls says nothing to others: neither has any.
    """
    told = _TOLD.get(shadow.consumer)
    if told is None:
        return
    found = shadow.of(differences)
    ids = tx.scalars(select(found.c.session_id).distinct().where(found.c.book.in_(told))).all()
    for start in range(0, len(ids), _SESSIONS_A_LOOK):
        yield list(_of(tx, shadow, sorted(ids)[start : start + _SESSIONS_A_LOOK], replay))


def _of(tx: Connection, shadow: Shadow, session_ids: Sequence[str], replay: str) -> Iterator[OutboxEvent]:
    live = _histories(tx, revisions, shadow.consumer, session_ids)
    anew = _histories(tx, shadow.of(revisions), shadow.consumer, session_ids)
    if shadow.consumer == "transcripts":
        for session_id, history in sorted(anew.items()):
            yield transcripts.correction(session_id, history, replay)
        return
    stored = billing.stored_entries(tx, session_ids)
    for session_id in session_ids:
        # Where the log has nothing of a session, what was told is taken back in the name of whom it was told.
        known = anew.get(session_id) or live.get(session_id)
        before = stored.get(session_id, {})
        if known is not None:
            event = billing.correction(session_id, known, before, replay, gone=session_id not in anew)
            yield from [event] if event else []


def _histories(
    tx: Connection, table: Table, consumer: str, session_ids: Sequence[str]
) -> Mapping[str, Sequence[Revision]]:
    found: dict[str, list[Revision]] = {}
    mine = (table.c.consumer == consumer) & among(tx, table.c.session_id, session_ids)
    for session_id, *revision in tx.execute(
        select(table.c.session_id, *(table.c[column.name] for column in COLUMNS)).where(mine)
    ):
        found.setdefault(session_id, []).append(Revision(*revision))
    return {session_id: sorted(history, key=lambda it: it.order) for session_id, history in found.items()}
