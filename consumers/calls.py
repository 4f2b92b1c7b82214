"""Calls as consumers read them: a record of `calls.ended`, or of `calls.prefetch`, opened once."""

import hashlib
from collections.abc import Sequence

import msgspec

from consumers.contract import UnreadableEvent
from consumers.database import clean_text
from consumers.revisions import Revision
from schemas.caller import Caller, Direction
from schemas.end_of_call import EndOfCall, decode_end_of_call
from schemas.event import (
    ENDED,
    MAX_SESSION_ID_CHARACTERS,
    PREFETCHED,
    Envelope,
    Record,
    decode_envelope,
    event_id,
    ordering,
)
from schemas.lenient import UNREADABLE

# PostgreSQL refuses a key of an index above 2,704 bytes. Our longest key is a session, an event's id (32) and two
# names: with UTF-8's four bytes a character it stays below.
MAX_NAME_LENGTH = 128

_DIGEST_LENGTH = 16

_parameters = msgspec.json.Decoder(dict[str, str | list[str]])


class EndedCall(msgspec.Struct, frozen=True, kw_only=True):
    """One body that the provider sent for a session. Another event of the same session is a revision of it, or, with
    the same `event_id`, a repetition.

    `received_at` is in microseconds since the epoch, already cut to the broker's clock; see `schemas.event.ordering`.
    `body` has what ringlog understands, and methods for the rest of it: `cost()`, `chat_turns()`, `functions()`.
    `sent` is the JSON as it came, secrets redacted: members that ringlog doesn't know are there. `recovered`: no
    webhook brought it, the provider was asked.
    """

    event_id: str
    received_at: int
    session_id: str
    agent_id: str | None
    caller: Caller
    direction: Direction
    decided_by: str | None
    recovered: bool
    body: EndOfCall
    sent: msgspec.Raw

    @property
    def order(self) -> tuple[bool, int, str]:
        """Of the events of a session the one with the greatest counts. See `schemas.event.ordering`."""
        return not self.recovered, self.received_at, self.event_id

    def revision(self, content: bytes) -> Revision:
        return Revision(self.event_id, self.received_at, content, self.recovered)


def ended_call(record: Record) -> EndedCall:
    """Raises `UnreadableEvent` for what is no ended call, or has a session that no table could be keyed by."""
    envelope = _envelope(record, ENDED, "ended call")
    try:
        body = decode_end_of_call(envelope.body)
    except UNREADABLE as error:
        raise UnreadableEvent(f"this value is no ended call: {error}") from error
    by_webhook, received_at, id_ = ordering(envelope, record.appended_ms)
    return EndedCall(
        event_id=id_,
        received_at=received_at,
        session_id=clean_text(envelope.session_id),
        agent_id=None if envelope.agent_id is None else bounded_name(envelope.agent_id),
        caller=envelope.caller,
        direction=envelope.direction,
        decided_by=None if envelope.decided_by is None else bounded_name(envelope.decided_by),
        recovered=not by_webhook,
        body=body,
        sent=envelope.body,
    )


class AnnouncedCall(msgspec.Struct, frozen=True, kw_only=True):
    """One question that the provider asked before a call. `received_at` and `event_id` are as of an `EndedCall`."""

    event_id: str
    received_at: int
    session_id: str
    agent_id: str | None
    caller: Caller
    direction: Direction
    decided_by: str | None
    sent: msgspec.Raw

    def parameters(self) -> dict[str, str | list[str]]:
        """Of the query, session metadata among them. One that occurs twice has a list."""
        return _parameters.decode(self.sent)


def announced_call(record: Record) -> AnnouncedCall:
    """Raises `UnreadableEvent` for what is no announced call, or has a session that no table could be keyed by."""
    envelope = _envelope(record, PREFETCHED, "announced call")
    _, received_at, id_ = ordering(envelope, record.appended_ms)
    return AnnouncedCall(
        event_id=id_,
        received_at=received_at,
        session_id=clean_text(envelope.session_id),
        agent_id=None if envelope.agent_id is None else bounded_name(envelope.agent_id),
        caller=envelope.caller,
        direction=envelope.direction,
        decided_by=None if envelope.decided_by is None else bounded_name(envelope.decided_by),
        sent=envelope.body,
    )


def _envelope(record: Record, expected: str, what: str) -> Envelope:
    if record.event_type != expected or record.value is None:
        raise UnreadableEvent(f"an event of type {record.event_type!r} where {expected!r} was expected")
    try:
        envelope = decode_envelope(record.value)
    except UNREADABLE as error:
        raise UnreadableEvent(f"this value is no {what}: {error}") from error
    if len(envelope.session_id) > MAX_SESSION_ID_CHARACTERS:
        length = len(envelope.session_id)
        raise UnreadableEvent(f"a session id of {length} characters; {MAX_SESSION_ID_CHARACTERS} are kept")
    return envelope


def bounded_name(text: str) -> str:
    """The text as a key: cleaned and, if it is very long, cut, with a digest so that two names stay two."""
    clean = clean_text(text)
    if len(clean) <= MAX_NAME_LENGTH:
        return clean
    digest = hashlib.blake2b(clean.encode(), digest_size=_DIGEST_LENGTH // 2).hexdigest()
    return f"{clean[: MAX_NAME_LENGTH - _DIGEST_LENGTH - 1]}…{digest}"


def derived_event_id(event_type: str, session_id: str, history: Sequence[Revision], said: bytes = b"") -> str:
    """The id of what a consumer says after the last revision of `history`: the same again when it is replayed.

    The whole history goes into it, because a late revision may bring the books back to what they said before: that is
    a new statement, and a subscriber that knows ids must not take it for the old one.
    """
    known = msgspec.msgpack.encode([(revision.event_id, revision.received_at) for revision in history])
    return event_id(event_type, session_id, known + said)
