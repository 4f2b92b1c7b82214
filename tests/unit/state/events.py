"""Events as they lie in the topics, for tests of the fold."""

from collections.abc import Sequence
from typing import Any

import msgspec

from schemas.caller import Caller
from schemas.event import Envelope, event_id
from schemas.facts import CallerFact, fact_key
from schemas.topics import CALLERS_FACTS, CALLS_ENDED, CALLS_PREFETCH
from state.slices import Slice


class Message(msgspec.Struct, frozen=True):
    """Has what the fold reads of a record."""

    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None


class Event(msgspec.Struct, frozen=True):
    """Something for a partition of a topic, not yet at an offset. `appended_ms` is the broker's clock."""

    topic: str
    key: bytes
    value: bytes | None
    appended_ms: int = 2_000_000_000_000

    def at(self, offset: int) -> Message:
        return Message(offset, self.appended_ms, self.key, self.value)


def envelope(
    kind: str,
    session: str,
    caller: str,
    received_at: int,
    body: bytes,
    agent: str | None = "agent-1",
    recovered: bool = False,
) -> bytes:
    return msgspec.json.encode(
        Envelope(
            event_id=event_id(kind, session, body),
            received_at=received_at,
            session_id=session,
            agent_id=agent,
            caller=Caller(caller, "phone"),
            direction="inbound",
            recovered=recovered,
            body=msgspec.Raw(body),
        )
    )


def ended(session: str, caller: str, received_at: int = 1, *, agent: str | None = "agent-1", **body: Any) -> Event:
    """`body` holds the members of the provider's record."""
    return ended_raw(session, caller, msgspec.json.encode(body), received_at, agent=agent)


def ended_raw(
    session: str,
    caller: str,
    body: bytes,
    received_at: int = 1,
    *,
    agent: str | None = "agent-1",
    recovered: bool = False,
) -> Event:
    """`recovered`: no webhook brought it, the provider's API was asked."""
    kind = "recovered" if recovered else "ended"
    value = envelope(kind, session, caller, received_at, body, agent, recovered)
    return Event(CALLS_ENDED.name, caller.encode(), value)


def prefetched(session: str, caller: str, received_at: int = 1, **query: Any) -> Event:
    body = msgspec.json.encode(query)
    return Event(CALLS_PREFETCH.name, caller.encode(), envelope("prefetched", session, caller, received_at, body))


def fact(caller: str, name: str, value: Any) -> Event:
    said = CallerFact(event_id="f", received_at=1, caller_id=caller, fact=name, value=value)
    return Event(CALLERS_FACTS.name, fact_key(caller, name), msgspec.json.encode(said))


def no_fact(caller: str, name: str) -> Event:
    return Event(CALLERS_FACTS.name, fact_key(caller, name), None)


def slices_of(log: Sequence[Event], start: int = 0) -> list[Slice]:
    """One partition a topic, in the order given."""
    return [
        Slice(topic, 0, start + len(log), [event.at(start + n) for n, event in enumerate(log) if event.topic == topic])
        for topic in sorted({event.topic for event in log})
    ]
