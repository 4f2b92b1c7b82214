"""Recordings: from the end of a call to a row of work. Fetching the sound is the downloader's."""

from collections.abc import Sequence
from typing import Any

import msgspec
from sqlalchemy import Connection, case

from consumers import revisions
from consumers.calls import EndedCall, ended_call
from consumers.database import clean_text
from consumers.recordings.object_name import object_stem
from consumers.revisions import Revision
from consumers.rows import insert
from consumers.tables import recordings
from schemas.caller import Caller
from schemas.event import Record
from schemas.topics import CALLS_ENDED, Topic

NAME = "recordings"

# Columns that follow from the log; the others tell of the work.
SAID = ("url", "event_id", "received_at", "agent_id", "caller", "object_stem")


class Mention(msgspec.Struct, frozen=True, array_like=True):
    """What a revision says of a call's recording. `started_at` is in microseconds since the epoch."""

    url: str
    agent_id: str | None
    caller: Caller
    started_at: int | None


_encode = msgspec.msgpack.Encoder().encode
_mention = msgspec.msgpack.Decoder(Mention)


class Recordings:
    """A `consumers.contract.Consumer`: `calls.ended` to rows of `recordings`.

    What a row says follows from the set of a session's revisions that name a recording: the URL and the event are the
    last one's, the object's name is the first one's, so that it doesn't move when a revision arrives. A row that is
    stored stays stored. On any other, another URL means a new beginning: it is due at once, with its whole budget.
    """

    name = NAME
    topics: tuple[Topic, ...] = (CALLS_ENDED,)
    thread_safe = True

    def handle(self, tx: Connection, records: Sequence[Record]) -> None:
        """Raises `UnreadableEvent` for what is no ended call."""
        seen: dict[str, list[Revision]] = {}
        for record in records:
            call = ended_call(record)
            if mention := _mention_in(call):
                seen.setdefault(call.session_id, []).append(call.revision(_encode(mention)))
        changed = revisions.record(tx, self.name, seen).changed
        _upsert(tx, [_row(session_id, history) for session_id, history in sorted(changed.items())])


def stems(session_id: str, history: Sequence[Revision]) -> list[str]:
    """Every name, without extension, under which the recording may lie, the one to be used first: by the first body
    that was received, whoever brought it, so that it doesn't move when another one comes.

    There is more than one only if the revisions disagree on the agent or the day. The sound may then lie under the
    name by a revision that was the first to arrive here, though not the first to be received: a rebuilt database has
    to find it all the same.
    """
    names = []
    for revision in sorted(history, key=lambda it: (it.received_at, it.event_id)):
        mention = _mention.decode(revision.content)
        started_at = revision.received_at if mention.started_at is None else mention.started_at
        names.append(object_stem(mention.agent_id, session_id, started_at))
    return list(dict.fromkeys(names))


def _mention_in(call: EndedCall) -> Mention | None:
    url = call.body.recording_url
    return Mention(clean_text(url), call.agent_id, call.caller, call.body.started_at_us) if url else None


def _row(session_id: str, history: Sequence[Revision]) -> dict[str, Any]:
    last = _mention.decode(history[-1].content)
    return {
        "session_id": session_id,
        "status": "pending",
        "url": last.url,
        "event_id": history[-1].event_id,
        "received_at": history[-1].received_at,
        "agent_id": last.agent_id,
        "caller": msgspec.json.encode(last.caller).decode(),
        "object_stem": stems(session_id, history)[0],
        "attempts": 0,
        # Due at once, in the order of the calls: addresses expire.
        "next_attempt_at": history[-1].received_at,
        "leased_until": 0,
    }


def _upsert(tx: Connection, rows: Sequence[dict[str, Any]]) -> None:
    """One statement that decides by the row as it is, because a downloader may be changing it at the same time."""
    if not rows:
        return
    statement = insert(tx, recordings)
    tx.execute(
        statement.on_conflict_do_update(index_elements=["session_id"], set_=merged(statement.excluded)), list(rows)
    )


def merged(new: Any) -> dict[str, Any]:
    """What becomes of a row of which the log says something `new`: the columns to set, by name."""
    old = recordings.c
    anew = (old.status != "stored") & (old.url != new.url)
    beginning = {
        "status": case((anew, "pending"), else_=old.status),
        "attempts": case((anew, 0), else_=old.attempts),
        "next_attempt_at": case((anew, new.next_attempt_at), else_=old.next_attempt_at),
        "error": case((anew, None), else_=old.error),
    }
    said = {name: new[name] for name in SAID}
    return said | beginning
