"""A call as the provider's API tells it, as the body of an end of call."""

import msgspec

from schemas.end_of_call import head_of, identifier
from schemas.lenient import NULL, UNREADABLE, Members, members_of

# Of a call that has not ended; every other status is one of an end. Source: provider facts, shapes.
UNFINISHED = frozenset("registered queued dispatching provider_queued initiated ringing in-progress".split())


class Unreadable(ValueError):
    """What the API said is no call."""


class RecoveredCall(msgspec.Struct, frozen=True):
    """`body` is what a webhook would have brought, as far as the API knows it."""

    session_id: str
    has_ended: bool
    body: bytes


def recovered_call(told: bytes, session_id: str | None = None) -> RecoveredCall:
    """`session_id` is what was asked for, where one was. Raises `Unreadable`.

    Names are those of the webhook's body, and everything is kept. Only the status may go by the name `status`.
    """
    try:
        members = members_of(told)
    except UNREADABLE as error:
        raise Unreadable(f"this is no call: {error}") from None
    named = identifier(head_of(members).session_id) or session_id
    if named is None:
        raise Unreadable("this call has no session_id")
    if _is_absent(members, "session_id"):
        members["session_id"] = msgspec.Raw(msgspec.json.encode(named))
    if _is_absent(members, "call_status") and not _is_absent(members, "status"):
        members["call_status"] = members["status"]
    return RecoveredCall(named, _text(members.get("call_status", NULL)) not in UNFINISHED, msgspec.json.encode(members))


def _is_absent(members: Members, name: str) -> bool:
    return bytes(members.get(name, NULL)) == b"null"


def _text(raw: msgspec.Raw) -> str | None:
    try:
        return msgspec.json.decode(raw, type=str)
    except UNREADABLE:
        return None
