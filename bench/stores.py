"""The state stores, filled: ringlog's through its own fold, the peer's as a user of LMDB and pydantic would."""

import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import lmdb
import msgspec

from bench.calls import OWN_NUMBER, Caller
from schemas.caller import CallerIdentity
from schemas.event import ENDED, Envelope, event_id, rfc3339
from schemas.facts import CallerFact, fact_key
from schemas.topics import CALLERS_FACTS, CALLS_ENDED
from state.generations import Generations
from state.layout import About
from state.slices import Slice
from state.store import ProfileStore

_BATCH = 5_000  # messages a transaction


class _Message(msgspec.Struct):
    offset: int
    timestamp: int
    key: bytes
    value: bytes


def fill_ringlog(state_dir: Path, callers: Sequence[Caller], identity: CallerIdentity) -> None:
    """Each caller has ended one call and has the user's facts. The store says that it has caught up."""
    now_us = time.time_ns() // 1000
    generations = Generations(state_dir)
    path = generations.begin()
    store = ProfileStore(path)
    try:
        for start in range(0, len(callers), _BATCH):
            part = callers[start : start + _BATCH]
            ended = [_ended(caller, identity, now_us, start + place) for place, caller in enumerate(part)]
            facts = list(_facts(part, identity, now_us))
            store.fold(
                [
                    Slice(CALLS_ENDED.name, 0, start + len(part), ended),
                    Slice(CALLERS_FACTS.name, 0, start * 3 + len(facts), facts),
                ]
            )
        store.set_about(About("bench", True, now_us // 1000))
    finally:
        store.close()
    generations.swap(path)


def _ended(caller: Caller, identity: CallerIdentity, now_us: int, offset: int) -> _Message:
    session_id, body = caller.call["session_id"], msgspec.json.encode(caller.call)
    who, direction, decided_by = identity.identify(session_id, caller.number, OWN_NUMBER, dict)
    envelope = Envelope(
        event_id=event_id(ENDED, session_id, body),
        received_at=now_us,
        session_id=session_id,
        agent_id=caller.call["agent_id"],
        caller=who,
        direction=direction,
        decided_by=decided_by,
        body=msgspec.Raw(body),
    )
    return _Message(offset, now_us // 1000, who.id.encode(), msgspec.json.encode(envelope))


def _facts(callers: Sequence[Caller], identity: CallerIdentity, now_us: int) -> Iterator[_Message]:
    for caller in callers:
        id_ = identity.id_of_number(caller.number)
        for name, value in caller.facts.items():
            fact = CallerFact(event_id=name, received_at=now_us, caller_id=id_, fact=name, value=value)
            yield _Message(0, now_us // 1000, fact_key(id_, name), msgspec.json.encode(fact))


def fill_peer(folder: Path, callers: Sequence[Caller]) -> None:
    """Number -> JSON of the same profile."""
    environment = lmdb.open(str(folder), map_size=1024**3)
    with environment.begin(write=True) as tx:
        for caller in callers:
            profile = {
                "facts": caller.facts,
                "metadata": caller.call["metadata"],
                "calls": 1,
                "last_call_at": rfc3339(round(caller.call["ts"] * 1_000_000)),
                "last_status": caller.call["call_status"],
                "last_agent": caller.call["agent_id"],
            }
            tx.put(caller.number.encode(), msgspec.json.encode(profile))
    environment.close()
