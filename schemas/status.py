"""How a call ended."""

import msgspec

DOCUMENTED = frozenset(
    "user-ended api-ended voicemail-message voicemail-hangup agent-ended timeout error chat_completion".split()
)

# Source: provider facts, shapes (its REST API); the webhook page doesn't list them.
FROM_THE_API = frozenset(
    "registered queued dispatching provider_queued initiated ringing in-progress"
    " canceled busy no-answer failed unknown".split()
)

KNOWN = DOCUMENTED | FROM_THE_API

OTHER = "other"


class CallStatus(msgspec.Struct, frozen=True):
    """`value` is one of `KNOWN`, or `other`, or None when nothing was sent; `original` is always what was sent."""

    value: str | None
    original: str | None


def call_status(sent: str | None) -> CallStatus:
    if sent is None:
        return CallStatus(None, None)
    return CallStatus(sent if sent in KNOWN else OTHER, sent)
