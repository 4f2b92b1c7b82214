"""What is said to others of books that a swap changes: once, by the outbox of the live consumer.

It is made ready in the shadow while nobody waits, and moved to the live outbox in the transaction of the swap.
"""

from collections.abc import Iterator, Mapping, Sequence

from sqlalchemy import Connection, Table, delete, func, insert, literal, select

from consumers import billing, transcripts
from consumers.outbox import OutboxEvent, packed, posted
from consumers.replay.shadow import Shadow, differences, prepared
from consumers.revisions import COLUMNS, Revision
from consumers.rows import among, insert_rows
from consumers.tables import outbox, revisions

_SESSIONS_A_LOOK = 500

# The tables whose rows the derived events of a consumer tell of. A stored sound is the same before and after, and the
# log of calls says nothing to others: they have none.
_TOLD = {
    "billing": ("billing_entries",),
    "transcripts": ("transcripts",),
}


def prepare(tx: Connection, shadow: Shadow, replay: str, only: set[str] | None = None) -> None:
    """Of the sessions that differ, or of these only. `tx` is of `shadow.joint`, and has replaced nothing yet."""
    ready, found = shadow.of(prepared), shadow.of(differences)
    those, differ = delete(ready), select(found.c.session_id).where(found.c.book.in_(_TOLD.get(shadow.consumer, ())))
    if only is not None:
        those = those.where(among(tx, ready.c.session_id, only))
        differ = differ.where(among(tx, found.c.session_id, only))
    tx.execute(those)
    ids = sorted(set(tx.scalars(differ)))
    for start in range(0, len(ids), _SESSIONS_A_LOOK):
        events = _of(tx, shadow, ids[start : start + _SESSIONS_A_LOOK], replay)
        number = tx.execute(select(func.coalesce(func.max(ready.c.id), 0))).scalar_one()
        rows = [
            {"id": number + n, "session_id": it.session_id, "packed": packed([posted(it)])}
            for n, it in enumerate(events, 1)
        ]
        insert_rows(tx, ready, rows)


def post(tx: Connection, shadow: Shadow) -> int:
    """Of the sessions that still differ; how many."""
    ready, found = shadow.of(prepared), shadow.of(differences)
    due = ready.c.session_id.in_(select(found.c.session_id))
    said = select(literal(shadow.consumer), literal(1), ready.c.packed).where(due).order_by(ready.c.id)
    tx.execute(insert(outbox).from_select(["consumer", "events", "packed"], said))
    return tx.execute(select(func.count()).select_from(ready).where(due)).scalar_one()


def _of(tx: Connection, shadow: Shadow, session_ids: Sequence[str], replay: str) -> Iterator[OutboxEvent]:
    anew = _histories(tx, shadow.of(revisions), shadow.consumer, session_ids)
    if shadow.consumer == "transcripts":
        for session_id, history in sorted(anew.items()):
            yield transcripts.correction(session_id, history, replay)
        return
    live = _histories(tx, revisions, shadow.consumer, session_ids)
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
    columns = (table.c[column.name] for column in COLUMNS)
    for session_id, *revision in tx.execute(select(table.c.session_id, *columns).where(mine)):
        found.setdefault(session_id, []).append(Revision(*revision))
    return {session_id: sorted(history, key=lambda it: it.order) for session_id, history in found.items()}
