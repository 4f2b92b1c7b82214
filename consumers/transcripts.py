"""Transcripts: what was said in a call and which functions were called, in tables that can be searched.

The transcript of a session follows from its revisions alone: in their order, each adds what it says to what is known.
A revision that says nothing of a part, or says it unreadably, takes nothing away.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import msgspec
from sqlalchemy import Connection, Table, bindparam, delete, select

from consumers import outbox, revisions
from consumers.calls import EndedCall, derived_event_id, ended_call
from consumers.database import clean_text
from consumers.revisions import Revision
from consumers.rows import among, insert_rows
from consumers.tables import transcript_function_calls, transcript_turns, transcripts
from consumers.weaving import PlacedCall, placed
from schemas.caller import Caller
from schemas.chat import Chat, FunctionCalls, State, Turn
from schemas.derived import TranscriptReady
from schemas.event import TRANSCRIBED, Record
from schemas.function_calls import FunctionCall, Mention
from schemas.status import CallStatus
from schemas.topics import CALLS_ENDED, TRANSCRIPTS_READY, Topic

# An hour of talk has some hundred turns. A body of 8 MiB may hold four million commas, which is no conversation: it is
# kept as it came, and counts as unreadable.
MAX_TURNS = 10_000

_RANK: dict[State, int] = {"none": 0, "unreadable": 1, "ok": 2}


class Account(msgspec.Struct, frozen=True, array_like=True):
    """What a revision says of a call, or several together: the content that is kept of it.

    `started_at` is in microseconds since the epoch. `original_chat` is the chat as it came, when it is unreadable.
    """

    caller: Caller
    agent_id: str | None
    status: CallStatus
    started_at: int | None
    duration_ms: int | None
    chat: Chat
    original_chat: str | None
    functions: FunctionCalls


class Transcript(msgspec.Struct, frozen=True):
    """What is known of a call after `history`, whose last revision is the last one that changed it.

    `calls` are those of its functions and of its chat together, each at its place.
    """

    account: Account
    history: Sequence[Revision]
    calls: tuple[PlacedCall, ...]

    @property
    def source(self) -> Revision:
        return self.history[-1]


encoded = msgspec.msgpack.Encoder().encode
_account = msgspec.msgpack.Decoder(Account)

_Row = dict[str, Any]


class Transcripts:
    """A `consumers.contract.Consumer`: `calls.ended` to the tables of transcripts and `transcripts.ready`."""

    name = "transcripts"
    topics: tuple[Topic, ...] = (CALLS_ENDED,)
    thread_safe = True

    def handle(self, tx: Connection, records: Sequence[Record]) -> None:
        """Raises `UnreadableEvent` for what is no ended call; whatever its chat is, is no reason."""
        seen: dict[str, list[Revision]] = {}
        for record in records:
            call = ended_call(record)
            seen.setdefault(call.session_id, []).append(call.revision(encoded(account_of(call))))
        changed = revisions.record(tx, self.name, seen)
        stored = _stored(tx, changed)
        fresh = {session_id: transcript_of(history) for session_id, history in sorted(changed.items())}
        rows = {session_id: _rows(session_id, transcript) for session_id, transcript in fresh.items()}
        due = {session_id: new for session_id, new in rows.items() if new != stored.get(session_id)}
        _write(tx, due, stored)
        outbox.post(tx, self.name, [_event(session_id, fresh[session_id]) for session_id in due])


def account_of(call: EndedCall) -> Account:
    """What an event says, with texts as both databases can hold them."""
    body = call.body
    chat, functions = _chat(call), _functions(call)
    unreadable = chat.state == "unreadable"
    return Account(
        caller=call.caller,
        agent_id=call.agent_id,
        status=CallStatus(body.status.value, _clean(body.status.original)),
        started_at=body.started_at_us,
        duration_ms=body.duration_ms,
        chat=chat,
        original_chat=clean_text(bytes(body.chat).decode(errors="replace")) if unreadable else None,
        functions=functions,
    )


def _chat(call: EndedCall) -> Chat:
    try:
        chat = call.body.chat_turns()
    except RecursionError:  # parts of parts of parts: deeper than a transcript can be
        return Chat("unreadable")
    if len(chat.turns) > MAX_TURNS or len(chat.mentions) > MAX_TURNS:
        return Chat("unreadable")
    return Chat(
        chat.state,
        tuple(Turn(it.role, clean_text(it.text), _clean(it.original_role)) for it in chat.turns),
        tuple(Mention(it.position, _cleaned(it.call), it.is_result) for it in chat.mentions),
    )


def _functions(call: EndedCall) -> FunctionCalls:
    functions = call.body.functions()
    if len(functions.calls) > MAX_TURNS:
        return FunctionCalls("unreadable")
    return FunctionCalls(functions.state, tuple(map(_cleaned, functions.calls)))


def _cleaned(call: FunctionCall) -> FunctionCall:
    return FunctionCall(clean_text(call.name), _clean(call.params), _clean(call.result), _clean(call.id))


def _clean(text: str | None) -> str | None:
    return None if text is None else clean_text(text)


def transcript_of(history: Sequence[Revision]) -> Transcript:
    """The transcript that a session's revisions make together. `history` is not empty."""
    account = _account.decode(history[0].content)
    changed_at = 1
    for position, revision in enumerate(history[1:], 2):
        together = _together(account, _account.decode(revision.content))
        if together != account:
            account, changed_at = together, position
    return Transcript(account, history[:changed_at], placed(account.chat, account.functions.calls))


def _together(before: Account, after: Account) -> Account:
    """The later one, with what it doesn't say taken from the one before. Readable outranks unreadable."""
    chat_from = after if _RANK[after.chat.state] >= max(1, _RANK[before.chat.state]) else before
    functions_rank = max(1, _RANK[before.functions.state])
    return Account(
        caller=after.caller,
        agent_id=before.agent_id if after.agent_id is None else after.agent_id,
        status=before.status if after.status.original is None else after.status,
        started_at=before.started_at if after.started_at is None else after.started_at,
        duration_ms=before.duration_ms if after.duration_ms is None else after.duration_ms,
        chat=chat_from.chat,
        original_chat=chat_from.original_chat,
        functions=(after if _RANK[after.functions.state] >= functions_rank else before).functions,
    )


class _Rows(msgspec.Struct, frozen=True):
    """A transcript as it lies in the tables."""

    head: _Row
    turns: list[_Row]
    functions: list[_Row]


def _rows(session_id: str, transcript: Transcript) -> _Rows:
    account, source = transcript.account, transcript.source
    head = {
        "session_id": session_id,
        "event_id": source.event_id,
        "received_at": source.received_at,
        "agent_id": account.agent_id,
        "caller_id": account.caller.id,
        "status": account.status.value,
        "original_status": account.status.original,
        "started_at": account.started_at,
        "duration_ms": account.duration_ms,
        "chat_state": account.chat.state,
        "original_chat": account.original_chat,
        "turns": len(account.chat.turns),
        "function_calls_state": account.functions.state,
        "function_calls": len(transcript.calls),
    }
    return _Rows(head, list(_numbered(session_id, account.chat.turns)), list(_numbered(session_id, transcript.calls)))


def _numbered(session_id: str, items: Iterable[msgspec.Struct]) -> Iterator[_Row]:
    for position, item in enumerate(items):
        yield {"session_id": session_id, "position": position, **msgspec.structs.asdict(item)}


def correction(session_id: str, history: Sequence[Revision], replay: str) -> outbox.OutboxEvent:
    """What the topic says when a replay has replaced a transcript. `history` is not empty."""
    return _event(session_id, transcript_of(history), replay)


def _event(session_id: str, transcript: Transcript, replay: str = "") -> outbox.OutboxEvent:
    account, source = transcript.account, transcript.source
    id_ = derived_event_id(TRANSCRIBED, session_id, transcript.history, replay.encode())
    ready = TranscriptReady(
        event_id=id_,
        session_id=session_id,
        agent_id=account.agent_id,
        caller=account.caller,
        source_event_id=source.event_id,
        state=account.chat.state,
        turns=len(account.chat.turns),
        function_calls=len(transcript.calls),
    )
    return outbox.OutboxEvent(
        topic=TRANSCRIPTS_READY,
        caller_id=account.caller.id,
        event_type=TRANSCRIBED,
        event_id=id_,
        time=source.received_at,
        session_id=session_id,
        value=msgspec.json.encode(ready),
    )


def _stored(tx: Connection, session_ids: Iterable[str]) -> dict[str, _Rows]:
    """The transcripts that are there, by session."""
    found = {row["session_id"]: _Rows(row, [], []) for row in _select(tx, transcripts, session_ids)}
    for row in _select(tx, transcript_turns, found):
        found[row["session_id"]].turns.append(row)
    for row in _select(tx, transcript_function_calls, found):
        found[row["session_id"]].functions.append(row)
    return found


def _select(tx: Connection, table: Table, session_ids: Iterable[str]) -> Iterator[_Row]:
    statement = select(table).where(among(tx, table.c.session_id, session_ids)).order_by(*table.primary_key)
    for row in tx.execute(statement).mappings():
        yield dict(row)


def _write(tx: Connection, due: dict[str, _Rows], stored: dict[str, _Rows]) -> None:
    """Whole transcripts: an old one goes first, turns before the row that they belong to."""
    if replaced := [{"gone": session_id} for session_id in due if session_id in stored]:
        for table in (transcript_turns, transcript_function_calls, transcripts):
            tx.execute(delete(table).where(table.c.session_id == bindparam("gone")), replaced)
    for table, rows in (
        (transcripts, [it.head for it in due.values()]),
        (transcript_turns, [turn for it in due.values() for turn in it.turns]),
        (transcript_function_calls, [call for it in due.values() for call in it.functions]),
    ):
        insert_rows(tx, table, rows)
