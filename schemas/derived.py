"""What our own consumers publish: one struct a topic."""

from typing import Annotated

import msgspec

from schemas.caller import Caller
from schemas.cost import Charge, Micros

Entries = Annotated[tuple[Charge, ...], msgspec.Meta(description="The differences that were posted.")]
Posting = Annotated[str, msgspec.Meta(description="charge or adjustment; other words may come.")]
TranscriptState = Annotated[str, msgspec.Meta(description="ok, none or unreadable; other words may come.")]


class Charged(msgspec.Struct, frozen=True, kw_only=True):
    """`billing.charges`: what one event of a call changed on its bill. `source_event_id` is that event's id."""

    event_id: str
    session_id: str
    agent_id: str | None
    caller: Caller
    source_event_id: str
    kind: Posting
    entries: Entries
    total_micros: Micros  # of the call, after them


class TranscriptReady(msgspec.Struct, frozen=True, kw_only=True):
    """`transcripts.ready`: a transcript was written, or written anew by a revision."""

    event_id: str
    session_id: str
    agent_id: str | None
    caller: Caller
    source_event_id: str
    state: TranscriptState
    turns: int
    function_calls: int


class RecordingStored(msgspec.Struct, frozen=True, kw_only=True):
    """`recordings.stored`: the sound of a call lies in object storage under `object`."""

    event_id: str
    session_id: str
    agent_id: str | None
    caller: Caller
    source_event_id: str
    object: str
    bytes: int
    sha256: str
    content_type: str
