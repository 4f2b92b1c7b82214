"""Records of `calls.ended` and `calls.prefetch` as they lie in the topics, for tests of what reads them."""

from typing import Any

import msgspec

from schemas.caller import Caller
from schemas.event import ENDED, PREFETCHED, RECOVERED, Envelope, Record, event_id, headers_of

APPENDED_MS = 1_790_000_000_000

CALLER = Caller("c0ffee", "phone", "+15550100")


def time_us(at: int) -> int:
    """`at` microseconds after the beginning, since the epoch."""
    return (APPENDED_MS - 1_000_000) * 1000 + at


def ended(
    session_id: str,
    at: int,
    body: dict[str, Any] | bytes,
    *,
    caller: Caller = CALLER,
    agent_id: str | None = "-agent",
    appended_ms: int = APPENDED_MS,
    offset: int = 0,
    recovered: bool = False,
) -> Record:
    """The end of a call, received `at` microseconds after an arbitrary beginning."""
    received = body if isinstance(body, bytes) else msgspec.json.encode(body)
    received_at = time_us(at)
    id_ = event_id(RECOVERED if recovered else ENDED, session_id, received)
    envelope = Envelope(
        event_id=id_,
        received_at=received_at,
        session_id=session_id,
        agent_id=agent_id,
        caller=caller,
        direction="unknown",
        recovered=recovered,
        body=msgspec.Raw(received),
    )
    return Record(
        topic="calls.ended",
        partition=0,
        offset=offset,
        appended_ms=appended_ms,
        key=caller.id.encode(),
        value=msgspec.json.encode(envelope),
        headers=headers_of(ENDED, id_, received_at, session_id),
    )


def prefetched(session_id: str, at: int, *, caller: Caller = CALLER, agent_id: str | None = "-agent") -> Record:
    """The announcement of a call, received `at` microseconds after the same beginning."""
    id_ = event_id(PREFETCHED, session_id, b"%d" % at)
    envelope = Envelope(
        event_id=id_,
        received_at=time_us(at),
        session_id=session_id,
        agent_id=agent_id,
        caller=caller,
        direction="inbound",
        body=msgspec.Raw(b"{}"),
    )
    return Record(
        topic="calls.prefetch",
        partition=0,
        offset=0,
        appended_ms=APPENDED_MS,
        key=caller.id.encode(),
        value=msgspec.json.encode(envelope),
        headers=headers_of(PREFETCHED, id_, time_us(at), session_id),
    )
