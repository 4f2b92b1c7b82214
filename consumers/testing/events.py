"""Events as they lie in the topics, for tests: ordinary ones, and those that are as odd as what is really sent."""

from datetime import UTC, datetime
from types import EllipsisType
from typing import Any

import msgspec

from schemas.caller import Caller, CallerIdentity, Direction
from schemas.event import (
    ENDED,
    PREFETCHED,
    RECOVERED,
    Envelope,
    Record,
    decode_envelope,
    event_id,
    headers_of,
)
from schemas.topics import CALLS_ENDED, CALLS_PREFETCH

BEGINNING = datetime(2026, 1, 31, 9, 30, tzinfo=UTC)  # `at` counts from here

CALLER = "+15550100"
AGENT = "-OmNNf485Na8Bw82RSfz"
AGENT_NUMBER = "+15550199"

_identity = CallerIdentity(b"the key of the tests", own_numbers=[AGENT_NUMBER])

# A record is appended so long after it was received.
_ON_ITS_WAY_MS = 5


def ended(
    session_id: str,
    *,
    at: float = 0.0,
    caller: str | None = CALLER,
    agent_id: str | None = AGENT,
    recovered: bool = False,
    **members: Any,
) -> Record:
    """The end of a call, received `at` seconds after `BEGINNING`, of two minutes and two turns, for 0.0195 credits.

    `members` of the provider's body replace the ordinary ones or come in addition; `...` leaves one out. A `caller` of
    None makes it a web call. The same arguments give the same event: to repeat one, use it twice.
    """
    said: dict[str, Any] = {
        "session_id": session_id,
        "agent_id": agent_id,
        "ts": BEGINNING.timestamp() + at - 120.5,
        "duration": 120.5,
        "chars_used": 41,
        "call_id": f"call-of-{session_id}",
        "call_status": "user-ended",
        "voip": None if caller is None else {"provider": "twilio", "from": caller, "to": AGENT_NUMBER},
        "metadata": {"order": "A-1"},
        "chat": [
            {"role": "assistant", "content": "Hello, how can I help?"},
            {"role": "user", "content": "Where is my order?"},
        ],
        "function_calls": [{"name": "find_order", "params": {"order": "A-1"}, "result": "on its way"}],
        "cost_breakdown": [
            {"type": "stt", "provider": "millis", "credit": 0.0043},
            {"type": "llm", "provider": "openai", "credit": 0.0152, "prompt_tokens": 812, "completion_tokens": 64},
        ],
        "recording": {"recording_url": f"https://recordings.example/{session_id}.wav"},
    }
    said |= members
    body = msgspec.json.encode({name: value for name, value in said.items() if not isinstance(value, EllipsisType)})
    return _ended(session_id, _microseconds(at), *_caller(session_id, caller), agent_id, recovered, body)


def prefetched(
    session_id: str,
    *,
    at: float = 0.0,
    caller: str | None = CALLER,
    agent_id: str | None = AGENT,
    **parameters: str | list[str],
) -> Record:
    """A call was announced, `at` seconds after `BEGINNING`. `parameters` are further ones of the provider's query."""
    query = {"session_id": session_id, "agent_id": agent_id, "from": caller, "to": AGENT_NUMBER if caller else None}
    asked = {name: value for name, value in query.items() if value is not None} | parameters
    body = msgspec.json.encode(asked)
    found, direction = _caller(session_id, caller)
    envelope = Envelope(
        event_id=event_id(PREFETCHED, session_id, body),
        received_at=_microseconds(at),
        session_id=session_id,
        agent_id=agent_id,
        caller=found,
        direction=direction,
        body=msgspec.Raw(body),
    )
    return _record(CALLS_PREFETCH.name, PREFETCHED, envelope)


def revised(event: Record, *, after: float = 60.0, **members: Any) -> Record:
    """Another body for the session of an `ended` event, received `after` seconds later."""
    before = decode_envelope(event.value or b"")
    said = msgspec.json.decode(before.body) | members
    body = msgspec.json.encode({name: value for name, value in said.items() if not isinstance(value, EllipsisType)})
    received_at = before.received_at + round(after * 1_000_000)
    agent_id = members.get("agent_id", before.agent_id)
    return _ended(before.session_id, received_at, before.caller, before.direction, agent_id, before.recovered, body)


def odd_calls() -> list[Record]:
    """One ended call of each odd shape that the provider has been seen to send, or its page leaves open."""
    oddities: dict[str, dict[str, Any]] = {
        "all-null": dict.fromkeys(("ts", "duration", "call_status", "voip", "chat", "cost_breakdown", "recording")),
        "all-absent": dict.fromkeys(("ts", "duration", "call_status", "voip", "chat", "cost_breakdown"), ...),
        "integers": {"ts": int(BEGINNING.timestamp()), "duration": 7},
        "words": {"ts": "yesterday", "duration": "long", "chars_used": "many"},
        "chat-text": {"chat": '[{"role": "user", "content": "as a string"}]'},
        "chat-broken": {"chat": '[{"role": "user", "conte'},
        "chat-odd-turns": {
            "chat": [{"role": "user"}, {"role": "bot", "content": ["a", {"type": "text", "text": "b"}]}]
        },
        "functions-python": {"function_calls": "[{'name': 'find_order', 'params': {'order': None}}]"},
        "status-new": {"call_status": "swallowed-by-carrier"},
        "cost-unpriced": {"cost_breakdown": [{"type": "tts", "provider": "elevenlabs", "credit": None}]},
        "cost-empty": {"cost_breakdown": []},
        "recording-empty": {"recording": {}},
        "unknown-members": {"call_metrics": {"latency": [1, 2]}, "call_analysis": {"opt_out_detection": False}},
    }
    odd = [ended(f"odd-{name}", at=n, **members) for n, (name, members) in enumerate(oddities.items())]
    return [*odd, ended("odd-web", caller=None), ended("odd-withheld", caller="anonymous", agent_id=None)]


def unreadable() -> Record:
    """What lies in `calls.ended` and is no event, as if somebody else wrote there."""
    received_at = _microseconds(0)
    headers = headers_of(ENDED, "0" * 32, received_at, "unreadable")
    return _placed(CALLS_ENDED.name, b"somebody", b"no JSON", headers, received_at)


def _ended(
    session_id: str,
    received_at: int,
    caller: Caller,
    direction: Direction,
    agent_id: str | None,
    recovered: bool,
    body: bytes,
) -> Record:
    envelope = Envelope(
        event_id=event_id(RECOVERED if recovered else ENDED, session_id, body),
        received_at=received_at,
        session_id=session_id,
        agent_id=agent_id,
        caller=caller,
        direction=direction,
        recovered=recovered,
        body=msgspec.Raw(body),
    )
    return _record(CALLS_ENDED.name, ENDED, envelope)


def _record(topic: str, event_type: str, envelope: Envelope) -> Record:
    headers = headers_of(event_type, envelope.event_id, envelope.received_at, envelope.session_id)
    return _placed(topic, envelope.caller.id.encode(), msgspec.json.encode(envelope), headers, envelope.received_at)


def _placed(topic: str, key: bytes, value: bytes, headers: list[tuple[str, bytes]], received_at: int) -> Record:
    """The log says where it lies once it is published there."""
    appended_ms = received_at // 1000 + _ON_ITS_WAY_MS
    return Record(topic=topic, partition=0, offset=0, appended_ms=appended_ms, key=key, value=value, headers=headers)


def _caller(session_id: str, number: str | None) -> tuple[Caller, Direction]:
    to = None if number is None else AGENT_NUMBER
    caller, direction, _ = _identity.identify(session_id, number, to, dict)
    return caller, direction


def _microseconds(at: float) -> int:
    return round((BEGINNING.timestamp() + at) * 1_000_000)
