"""Transcripts: what was said in a call and which functions were called, in tables that can be searched.

The transcript of a session follows from its revisions alone: in their order, each adds what it says to what is known.
A revision that says nothing of a part, or says it unreadably, takes nothing away.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import msgspec
from sqlalchemy import Connection, select

from consumers import outbox, revisions
from consumers.calls import EndedCall, derived_event_id, ended_call
from consumers.database import clean_text
from consumers.revisions import Revision
from consumers.rows import among, insert_rows
from consumers.search import indexed
from consumers.tables import transcripts
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
_as_json = msgspec.json.Encoder().encode

_SAID = [column.name for column in transcripts.c if not column.primary_key]


class Transcripts:
    """A `consumers.contract.Consumer`: `calls.ended` to the tables of transcripts and `transcripts.ready`."""

    name = "transcripts"
    topics: tuple[Topic, ...] = (CALLS_ENDED,)
    thread_safe = True

    def handle(self, tx: Connection, records: Sequence[Record]) -> None:
        """Raises `UnreadableEvent` for what is no ended call; whatever its chat is, is no reason."""
        seen: dict[str, list[Revision]] = {}
        accounts: dict[bytes, Account] = {}
        for record in records:
            call = ended_call(record)
            account = account_of(call)
            content = encoded(account)
            accounts[content] = account
            seen.setdefault(call.session_id, []).append(call.revision(content))
        recorded = revisions.record(tx, self.name, seen)
        stored = _stored(tx, recorded.known)
        rows, events = [], []
        for session_id, history in sorted(recorded.changed.items()):
            transcript = transcript_of(history, accounts)
            row = _row(session_id, transcript)
            if row != stored.get(session_id):
                rows.append(row | {"words": indexed(tx, [turn.text for turn in transcript.account.chat.turns])})
                events.append(_event(session_id, transcript))
        insert_rows(tx, transcripts, rows, replacing=_SAID)
        outbox.post(tx, self.name, events)


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
    if not chat.mentions and _is_clean(chat.turns):
        return chat
    return Chat(
        chat.state,
        tuple(Turn(it.role, clean_text(it.text), _clean(it.original_role)) for it in chat.turns),
        tuple(Mention(it.position, _cleaned(it.call), it.is_result) for it in chat.mentions),
    )


def _is_clean(turns: Sequence[Turn]) -> bool:
    """Whether all texts are storable as they are, as most are: one look at all of them together."""
    together = "".join([turn.text for turn in turns]) + "".join([turn.original_role or "" for turn in turns])
    return clean_text(together) == together


def _functions(call: EndedCall) -> FunctionCalls:
    functions = call.body.functions()
    if len(functions.calls) > MAX_TURNS:
        return FunctionCalls("unreadable")
    return FunctionCalls(functions.state, tuple(map(_cleaned, functions.calls)))


def _cleaned(call: FunctionCall) -> FunctionCall:
    return FunctionCall(clean_text(call.name), _clean(call.params), _clean(call.result), _clean(call.id))


def _clean(text: str | None) -> str | None:
    return None if text is None else clean_text(text)


def transcript_of(history: Sequence[Revision], accounts: Mapping[bytes, Account] | None = None) -> Transcript:
    """The transcript that a session's revisions make together. `history` is not empty.

    `accounts`: of contents that need not be decoded, because they have just been encoded.
    """
    known = accounts or {}
    account = _account_in(history[0].content, known)
    changed_at = 1
    for position, revision in enumerate(history[1:], 2):
        together = _together(account, _account_in(revision.content, known))
        if together != account:
            account, changed_at = together, position
    return Transcript(account, history[:changed_at], placed(account.chat, account.functions.calls))


def _account_in(content: bytes, known: Mapping[bytes, Account]) -> Account:
    return known.get(content) or _account.decode(content)


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


def _row(session_id: str, transcript: Transcript) -> dict[str, Any]:
    account, source, turns = transcript.account, transcript.source, transcript.account.chat.turns
    return {
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
        "turns": len(turns),
        "function_calls_state": account.functions.state,
        "function_calls": len(transcript.calls),
        "said": _as_json([turn.text for turn in turns]).decode(),
        "speakers": _as_json([(turn.role, turn.original_role) for turn in turns]).decode(),
        "called": _as_json(transcript.calls).decode(),
    }


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


def _stored(tx: Connection, session_ids: Collection[str]) -> dict[str, dict[str, Any]]:
    """The transcripts that are there, by session, as `_row` makes them."""
    if not session_ids:
        return {}
    columns = [column for column in transcripts.c if column is not transcripts.c.words]
    found = tx.execute(select(*columns).where(among(tx, transcripts.c.session_id, session_ids)))
    return {row.session_id: dict(row._mapping) for row in found}
