"""Records of `calls.ended` as they lie in the topic, for tests of what reads them."""

from typing import Any

import msgspec

from schemas.caller import Caller
from schemas.event import ENDED, Envelope, Record, event_id, headers_of

APPENDED_MS = 1_790_000_000_000

CALLER = Caller("c0ffee", "phone", "+15550100")


def ended(
    session_id: str,
    at: int,
    body: dict[str, Any] | bytes,
    *,
    caller: Caller = CALLER,
    agent_id: str | None = "-agent",
    appended_ms: int = APPENDED_MS,
    offset: int = 0,
) -> Record:
    """The end of a call, received `at` microseconds after an arbitrary beginning."""
    received = body if isinstance(body, bytes) else msgspec.json.encode(body)
    received_at = (APPENDED_MS - 1_000_000) * 1000 + at
    id_ = event_id(ENDED, session_id, received)
    envelope = Envelope(
        event_id=id_,
        received_at=received_at,
        session_id=session_id,
        agent_id=agent_id,
        caller=caller,
        direction="unknown",
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
