"""The provider's end-of-call body. Source: the provider's webhook page; provider facts, shapes."""

import math
from typing import Annotated, Any

import msgspec

from schemas.chat import Chat, FunctionCalls, chat_of, function_calls_of
from schemas.cost import Cost, cost_of
from schemas.lenient import NULL, UNREADABLE, LenientDecoder, Members
from schemas.status import CallStatus, call_status

Said = Annotated[msgspec.Raw, msgspec.Meta(description="Any JSON value; kept verbatim and decoded where it is used.")]

MAX_DURATION_S = 10**9  # thirty years: beyond it a duration is no duration
MAX_TIMESTAMP_S = 32_503_680_000  # the year 3000: beyond it a timestamp is no timestamp


class Voip(msgspec.Struct, frozen=True, rename={"from_": "from"}):
    """Telephony details; absent or empty for web calls and chats."""

    provider: str | None = None
    from_: str | int | None = None
    to: str | int | None = None


class Recording(msgspec.Struct, frozen=True):
    recording_url: str | None = None


class CallHead(msgspec.Struct, frozen=True, kw_only=True):
    """What the edge must understand of the body: which session it is of, and who called."""

    session_id: str | int | None = None
    agent_id: str | int | None = None
    call_id: str | int | None = None
    voip: Voip | None = None
    metadata: Said = NULL

    def metadata_map(self) -> dict[str, Any]:
        """The session's metadata; empty when it is absent or no object."""
        try:
            value = msgspec.json.decode(self.metadata)
        except UNREADABLE:
            return {}
        return value if isinstance(value, dict) else {}


class EndOfCall(CallHead, frozen=True, kw_only=True):
    """What ringlog understands of the body. Every member may be absent or null; unknown members stay in the event."""

    ts: Annotated[float | None, msgspec.Meta(description="Start of the session, seconds since the epoch.")] = None
    duration: Annotated[float | None, msgspec.Meta(description="Seconds.")] = None
    chars_used: float | None = None
    call_status: str | None = None
    error_message: Said = NULL
    recording: Recording | None = None
    chat: Said = NULL
    function_calls: Said = NULL
    cost_breakdown: Said = NULL

    @property
    def started_at_us(self) -> int | None:
        """Microseconds since the epoch."""
        if self.ts is None or not math.isfinite(self.ts) or not 0 < self.ts < MAX_TIMESTAMP_S:
            return None
        return round(self.ts * 1_000_000)

    @property
    def duration_ms(self) -> int | None:
        """Milliseconds: integers, because sums of floats depend on their order."""
        if self.duration is None or not math.isfinite(self.duration) or not 0 <= self.duration < MAX_DURATION_S:
            return None
        return round(self.duration * 1000)

    @property
    def status(self) -> CallStatus:
        return call_status(self.call_status)

    @property
    def recording_url(self) -> str | None:
        url = self.recording.recording_url if self.recording else None
        return url.strip() or None if url else None

    def cost(self) -> Cost | None:
        """None while unknown. Raises `schemas.money.MoneyError`."""
        return cost_of(self.cost_breakdown)

    def chat_turns(self) -> Chat:
        return chat_of(self.chat)

    def functions(self) -> FunctionCalls:
        return function_calls_of(self.function_calls)


_decoder = LenientDecoder(EndOfCall)
_head = LenientDecoder(CallHead)


def head_of(members: Members) -> CallHead:
    """Of a body that was taken apart already: looks at no member but these. Never raises."""
    return _head.of_members(members)


def decode_end_of_call(raw: bytes | msgspec.Raw) -> EndOfCall:
    """Raises one of `schemas.lenient.UNREADABLE` when `raw` is no JSON object."""
    return _decoder.decode(raw)


def identifier(sent: str | int | None) -> str | None:
    """An id as text: some senders use numbers. None when absent or blank."""
    if sent is None:
        return None
    return str(sent).strip() or None


def phone_number(sent: str | int | None) -> str | None:
    """A number as text; None when absent or blank.

    Not stripped: a space at the start is a plus sign that went through a query string. A JSON number has no plus, and
    is read as the same digits in a query are.
    """
    if sent is None:
        return None
    text = str(sent)
    return text if text.strip() else None
