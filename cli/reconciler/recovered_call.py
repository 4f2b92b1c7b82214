"""A call as the provider's API tells it, as the body of an end of call."""

import msgspec

from schemas.end_of_call import decode_end_of_call, head_of, identifier
from schemas.lenient import NULL, UNREADABLE, Members, members_of, mend_surrogates
from schemas.money import MoneyError

# Of a call that has not ended. Source: provider facts, shapes.
UNFINISHED = frozenset("registered queued dispatching provider-queued initiated ringing in-progress".split())

# Says nothing of whether it has.
VAGUE = frozenset(("", "unknown"))

# What a call has only when it has ended.
_EVIDENCE = ("duration", "cost_breakdown")


class Unreadable(ValueError):
    """What the API said is no call."""


class RecoveredCall(msgspec.Struct, frozen=True):
    """`body` is what a webhook would have brought, as far as the API knows it."""

    session_id: str
    has_ended: bool
    is_priced: bool
    body: bytes


def recovered_call(told: bytes, session_id: str | None = None) -> RecoveredCall:
    """`session_id` is what was asked for, where one was. Raises `Unreadable`.

    Names are those of the webhook's body, and everything is kept. Only the status may go by the name `status`.
    """
    members = _members(told)
    named = identifier(head_of(members).session_id)
    if named is None:
        if session_id is None:
            raise Unreadable("this call has no session_id")
        named = session_id
        members["session_id"] = msgspec.Raw(msgspec.json.encode(named))
    if not _text(members, "call_status") and not _is_absent(members, "status"):
        members["call_status"] = members["status"]
    body = msgspec.json.encode(members)
    return RecoveredCall(named, _has_ended(members), _is_priced(body), body)


def _members(told: bytes) -> Members:
    try:
        return members_of(told)
    except UNREADABLE as error:
        mended = mend_surrogates(told)  # as a webhook's body is
        if mended != told:
            return _members(mended)
        raise Unreadable(f"this is no call: {error}") from None


def _has_ended(members: Members) -> bool:
    status = _text(members, "call_status").lower().replace("_", "-")
    if status in VAGUE:
        return not all(_is_absent(members, name) for name in _EVIDENCE)
    return status not in UNFINISHED


def _is_priced(body: bytes) -> bool:
    try:
        return decode_end_of_call(body).cost() is not None
    except MoneyError:
        return True  # told, and for the dead letters to keep


def _is_absent(members: Members, name: str) -> bool:
    return bytes(members.get(name, NULL)) == b"null"


def _text(members: Members, name: str) -> str:
    """Empty when it is absent, blank or no text."""
    try:
        return msgspec.json.decode(members.get(name, NULL), type=str).strip()
    except UNREADABLE:
        return ""
