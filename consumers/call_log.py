"""The log of calls: of each session, whether it was announced, whether it ended, and how. Other books join it.

The row of a session follows from its events alone: in their order, each adds what it says to what is known.
"""

from collections.abc import Sequence
from typing import Any

import msgspec
from sqlalchemy import Connection

from consumers import revisions
from consumers.calls import EndedCall, announced_call, ended_call
from consumers.database import clean_text
from consumers.revisions import Revision
from consumers.rows import insert_rows
from consumers.tables import call_log
from schemas.event import PREFETCHED, Record
from schemas.status import CallStatus
from schemas.topics import CALLS_ENDED, CALLS_PREFETCH, Topic


class Said(msgspec.Struct, frozen=True, array_like=True):
    """What one event says of its call, the content that is kept of it; or several together.

    Times are in microseconds since the epoch. `prefetched_at` and `ended_at`: when the first such event was received.
    """

    caller_id: str
    agent_id: str | None
    direction: str
    decided_by: str | None
    prefetched_at: int | None = None
    ended_at: int | None = None
    recovered: bool = False
    started_at: int | None = None
    duration_ms: int | None = None
    status: CallStatus = CallStatus(None, None)


_SAID = [column.name for column in call_log.columns if not column.primary_key]

_encode = msgspec.msgpack.Encoder().encode
_said = msgspec.msgpack.Decoder(Said)


class CallLog:
    """A `consumers.contract.Consumer`: `calls.prefetch` and `calls.ended` to `call_log`, and so to the view `calls`."""

    name = "calls"
    topics: tuple[Topic, ...] = (CALLS_PREFETCH, CALLS_ENDED)
    thread_safe = True

    def handle(self, tx: Connection, records: Sequence[Record]) -> None:
        """Raises `UnreadableEvent` for what is neither."""
        seen: dict[str, list[Revision]] = {}
        for record in records:
            session_id, revision = _prefetched(record) if record.event_type == PREFETCHED else _ended(record)
            seen.setdefault(session_id, []).append(revision)
        changed = revisions.record(tx, self.name, seen).changed
        rows = [_row(session_id, history) for session_id, history in sorted(changed.items())]
        insert_rows(tx, call_log, rows, replacing=_SAID)


def _prefetched(record: Record) -> tuple[str, Revision]:
    call = announced_call(record)
    said = Said(call.caller.id, call.agent_id, call.direction, call.decided_by, prefetched_at=call.received_at)
    return call.session_id, Revision(call.event_id, call.received_at, _encode(said))


def _ended(record: Record) -> tuple[str, Revision]:
    call: EndedCall = ended_call(record)
    sent = call.body.status
    said = Said(
        call.caller.id,
        call.agent_id,
        call.direction,
        call.decided_by,
        ended_at=call.received_at,
        recovered=call.recovered,
        started_at=call.body.started_at_us,
        duration_ms=call.body.duration_ms,
        status=CallStatus(sent.value, None if sent.original is None else clean_text(sent.original)),
    )
    return call.session_id, call.revision(_encode(said))


def _row(session_id: str, history: Sequence[Revision]) -> dict[str, Any]:
    said = [_said.decode(revision.content) for revision in history]
    # What an end says outranks what a prefetch says, whichever came first: who calls is decided by more than a query.
    known = sorted(said, key=lambda it: it.ended_at is not None)
    row = msgspec.structs.asdict(known[-1])
    for it in known[-2::-1]:
        row["agent_id"] = it.agent_id if row["agent_id"] is None else row["agent_id"]
        row["started_at"] = it.started_at if row["started_at"] is None else row["started_at"]
        row["duration_ms"] = it.duration_ms if row["duration_ms"] is None else row["duration_ms"]
        row["status"] = it.status if row["status"].original is None else row["status"]
    ends = [it for it in said if it.ended_at is not None]
    status = row.pop("status")
    times = [time for it in said for time in (it.prefetched_at, it.ended_at) if time is not None]
    return row | {
        "session_id": session_id,
        "prefetched_at": min((it.prefetched_at for it in said if it.prefetched_at is not None), default=None),
        "ended_at": min((it.ended_at for it in ends if it.ended_at is not None), default=None),
        "recovered": bool(ends) and all(it.recovered for it in ends),
        "status": status.value,
        "original_status": status.original,
        "first_heard_at": min(times),
    }
