"""Whether a consumer is at an earlier place than its books: it was moved back, and reads events once more.

Meanwhile the log, as far as the consumer has come, says less than the books, and nothing is wrong with them.
"""

from collections.abc import AsyncIterator, Sequence

from sqlalchemy import Connection

from consumers import revisions
from consumers.database import clean_text
from consumers.positions import PositionMismatch
from runtime.threads import in_thread
from schemas.event import Record, decode_envelope
from schemas.lenient import UNREADABLE


async def refuse_rereading(
    consumer: str, unread: AsyncIterator[list[Record]], books: Connection, anew: Connection
) -> None:
    """`unread` is what the consumer has still to read. `books` are its tables, `anew` is what was computed from the
    log before that. Raises `PositionMismatch` when the books know one of these events, and what was computed does not.
    """
    async for records in unread:
        if await in_thread(_knows_more, consumer, records, books, anew):
            raise PositionMismatch(
                f"{consumer} was moved back, and reads events again that its tables know already: wait until it is"
                f" through (`ringlog lag {consumer}`)"
            )


def _knows_more(consumer: str, records: Sequence[Record], books: Connection, anew: Connection) -> bool:
    events = {found for record in records if (found := _event(record)) is not None}
    sessions = {session for session, _ in events}
    known = revisions.known_events(books, consumer, sessions)
    if not known:
        return False
    computed = revisions.known_events(anew, consumer, known)
    return any(event in known.get(session, ()) and event not in computed.get(session, ()) for session, event in events)


def _event(record: Record) -> tuple[str, str] | None:
    """Its session and its id; None for what is no event of ours."""
    try:
        envelope = decode_envelope(record.value or b"")
    except UNREADABLE:
        return None
    return clean_text(envelope.session_id), envelope.event_id
