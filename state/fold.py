"""The fold: from events to profiles. No I/O; what comes out depends on the set of events only.

Not on the order in which partitions were read, on what came twice, on where a batch ended or a process died. Only
facts have an order, that of their partition, where all records of one fact lie.
"""

from collections.abc import Collection, Iterable, Mapping
from typing import Protocol

import msgspec

from schemas.topics import CALLERS_FACTS, CALLS_ENDED, CALLS_PREFETCH, Topic
from state.events import Announced, Ended
from state.profile import EMPTY_MAP, ProfileRow
from state.session import Call, Revision, Session
from state.slices import ReadSlice

# Of everything that decides the bytes of a store: the rules here, in `events`, `session` and `profile`, and the layout.
# Raise it with every change of them: stores of another version are left alone, and a new one is built from the topics.
FOLD_VERSION = 3

_NO_METADATA = bytes(EMPTY_MAP)

TOPICS: tuple[Topic, ...] = (CALLS_PREFETCH, CALLS_ENDED, CALLERS_FACTS)


class Source(Protocol):
    """What was folded before. Callers and sessions are named by their keys; what is not there is left out."""

    def profiles(self, callers: Collection[bytes]) -> dict[bytes, ProfileRow]: ...
    def sessions(self, sessions: Collection[bytes]) -> dict[bytes, Session]: ...
    def sessions_of(self, caller: bytes) -> Iterable[bytes]: ...


class Fold:
    """Folds one batch over what `source` has. `settle` once at the end; then the changes are in the three maps."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self.sessions: dict[bytes, Session] = {}
        self.profiles: dict[bytes, ProfileRow] = {}
        # By caller and session: whether it is now among the caller's calls, or is no longer.
        self.calls: dict[tuple[bytes, bytes], bool] = {}
        # Callers whose first or last call may be another one now, to be found among all of their calls.
        self._unsettled: set[bytes] = set()

    def add(self, part: ReadSlice) -> None:
        """What is known of its sessions and callers is asked for at once, in their order: neighbours share a page."""
        callers = {said.prefetch.caller_id.encode() for said in part.announced}
        callers.update(said.revision.caller_id.encode() for said in part.ended)
        callers.update(fact.caller for fact in part.facts)
        sessions = {said.session for said in part.announced}
        self._recall(sessions.union(said.session for said in part.ended), callers)
        for announced in part.announced:
            self._announce(announced)
        for ended in part.ended:
            self._end(ended)
        for fact in part.facts:
            self._profile(fact.caller).set_fact(fact.name, fact.value)

    def settle(self) -> None:
        if not self._unsettled:
            return
        changed: dict[bytes, dict[bytes, bool]] = {caller: {} for caller in self._unsettled}
        for (caller, key), there in self.calls.items():
            if caller in changed:
                changed[caller][key] = there
        for caller, sessions in changed.items():
            self._place_anew(caller, sessions)
        self._unsettled.clear()

    def _place_anew(self, caller: bytes, changed: Mapping[bytes, bool]) -> None:
        row = self._profile(caller)
        row.first_call_at = row.first_session = None
        row.last_call_at = row.last_session = row.last_status = row.last_agent = None
        row.metadata = EMPTY_MAP
        before = (key for key in self._source.sessions_of(caller) if key not in changed)
        for key in (*before, *(key for key, there in changed.items() if there)):
            session = self.sessions.get(key) or self._source.sessions((key,)).get(key)
            call = session.call() if session else None
            if call is not None:
                _place(row, key, call.at, call.said)

    def _announce(self, announced: Announced) -> None:
        session, prefetch = self._session(announced.session), announced.prefetch
        before = session.prefetch
        if not session.announce(prefetch):
            return
        if before is not None:
            self._profile(before.caller_id.encode()).prefetches -= 1
        self._profile(prefetch.caller_id.encode()).prefetches += 1

    def _end(self, ended: Ended) -> None:
        key, said = ended.session, ended.revision
        session = self.sessions.get(key)
        if session is None or not session.revisions:
            self._count_first(key, session, said)
            return
        before = session.call()
        if session.revise(said):
            after = session.call()
            assert before is not None and after is not None  # noqa: S101 - there are revisions
            self._count(key, before, after)

    def _count_first(self, key: bytes, session: Session | None, said: Revision) -> None:
        """What nearly every event is. It does what `_count` would, by hand: a rebuild has ten million of them."""
        if session is None:
            session = Session(None, [said])
        else:
            session.revisions = [said]
        self.sessions[key] = session
        caller = said.caller_id.encode()
        row = self.profiles.get(caller) or self._profile(caller)
        self.calls[caller, key] = True
        row.calls += 1
        if said.duration_ms is not None:
            row.duration_ms += said.duration_ms
        if said.cost_micros is None:
            row.unknown_costs += 1
        else:
            row.cost_micros += said.cost_micros
        _place(row, key, said.received_at if said.started_at is None else said.started_at, said)

    def _count(self, key: bytes, before: Call, after: Call) -> None:
        caller = after.said.caller_id.encode()
        row = self._profile(caller)
        if before.said.caller_id != after.said.caller_id:
            self._leave(before, key)
            self.calls[caller, key] = True
        else:
            _tally(row, before, -1)
            if _may_lose_its_place(row, key, after):
                self._unsettled.add(caller)
        _tally(row, after, +1)
        _place(row, key, after.at, after.said)

    def _leave(self, before: Call, key: bytes) -> None:
        """The caller of a session is another one than was said before."""
        caller = before.said.caller_id.encode()
        row = self._profile(caller)
        _tally(row, before, -1)
        self.calls[caller, key] = False
        if key in (row.first_session, row.last_session):
            self._unsettled.add(caller)

    def _recall(self, sessions: set[bytes], callers: set[bytes]) -> None:
        self.sessions |= self._source.sessions(sessions.difference(self.sessions))
        new = callers.difference(self.profiles)
        found = self._source.profiles(new)
        for caller in new:
            self.profiles[caller] = found.get(caller) or ProfileRow()

    def _session(self, key: bytes) -> Session:
        """Of those that were recalled, or a new one."""
        session = self.sessions.get(key)
        if session is None:
            session = self.sessions[key] = Session()
        return session

    def _profile(self, caller: bytes) -> ProfileRow:
        row = self.profiles.get(caller)
        if row is None:
            self._recall(set(), {caller})  # of one whom no event of the slice names
            row = self.profiles[caller]
        return row


def _tally(row: ProfileRow, call: Call, sign: int) -> None:
    row.calls += sign
    row.duration_ms += sign * (call.said.duration_ms or 0)
    row.cost_micros += sign * (call.cost_micros or 0)
    row.unknown_costs += sign * (call.cost_micros is None)


def _place(row: ProfileRow, key: bytes, at: int, said: Revision) -> None:
    """Makes it the first or the last call if it is. Ordered by `(at, session)`, which no two calls share."""
    first, last = row.first_call_at, row.last_call_at
    if first is None or at < first or (at == first and (row.first_session is None or key < row.first_session)):
        row.first_call_at, row.first_session = at, key
    if last is None or at > last or (at == last and (row.last_session is None or key >= row.last_session)):
        row.last_call_at, row.last_session = at, key
        row.last_status, row.last_agent = said.status, said.agent_id
        row.metadata = EMPTY_MAP if said.metadata == _NO_METADATA else msgspec.Raw(said.metadata)


def _may_lose_its_place(row: ProfileRow, key: bytes, after: Call) -> bool:
    """The first call is later than it was, or the last one earlier."""
    first_is_later = key == row.first_session and row.first_call_at is not None and after.at > row.first_call_at
    last_is_earlier = key == row.last_session and row.last_call_at is not None and after.at < row.last_call_at
    return first_is_later or last_is_earlier
