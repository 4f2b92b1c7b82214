"""One call, with every body that came for it."""

import hashlib
from bisect import insort

import msgspec

# The provider's ids are push ids, whose first eight characters are the time to the millisecond, in ASCII order. Keys
# that begin as the ids do lie in the order of time, so what comes together lies together, in few pages of the store.
_TIME_CHARACTERS = 8

_hash = hashlib.blake2b(digest_size=16)


class Revision(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """What one end-of-call event says, as far as a profile is concerned. `metadata` is a MessagePack map."""

    received_at: int
    event_id: str
    caller_id: str
    agent_id: str | None
    status: str | None
    started_at: int | None
    duration_ms: int | None
    cost_micros: int | None
    metadata: bytes
    recovered: bool = False


class Prefetch(msgspec.Struct, array_like=True, frozen=True, order=True, gc=False):
    """That the call was announced; the earliest counts."""

    received_at: int
    event_id: str
    caller_id: str


class Call(msgspec.Struct, frozen=True, gc=False):
    """How a session counts in the profile of `said.caller_id`. `at` orders the calls of a caller."""

    said: Revision
    at: int
    cost_micros: int | None


class Session(msgspec.Struct, array_like=True, gc=False):
    """`revisions` are ordered as `schemas.event.ordering` has it, each event id once, with its earliest time."""

    prefetch: Prefetch | None = None
    revisions: list[Revision] = []

    def call(self) -> Call | None:
        """The last revision counts, but an unknown cost never replaces a known one. None before the call ended."""
        if not self.revisions:
            return None
        last = self.revisions[-1]
        if len(self.revisions) == 1:  # nearly all
            return Call(last, last.received_at if last.started_at is None else last.started_at, last.cost_micros)
        cost = last.cost_micros
        if cost is None:
            cost = next((said.cost_micros for said in reversed(self.revisions) if said.cost_micros is not None), None)
        first_received_at = min(revision.received_at for revision in self.revisions)
        at = first_received_at if last.started_at is None else last.started_at
        return Call(last, at, cost)

    def announce(self, prefetch: Prefetch) -> bool:
        """Whether it changed anything."""
        if self.prefetch is not None and self.prefetch <= prefetch:
            return False
        self.prefetch = prefetch
        return True

    def revise(self, revision: Revision) -> bool:
        """Whether it changed anything: an event that came again does only when its time is an earlier one."""
        if not self.revisions:
            self.revisions = [revision]
            return True
        for place, known in enumerate(self.revisions):
            if known.event_id == revision.event_id:
                if _earliness(known) <= _earliness(revision):
                    return False
                del self.revisions[place]
                break
        insort(self.revisions, revision, key=_order)
        return True


def session_key(session_id: str) -> bytes:
    """The id's beginning, filled up with NUL, and its hash: ids are input, of any length; LMDB takes 511 bytes, and the
    list of a caller's calls wants keys of one length."""
    id_ = session_id.encode()
    digest = _hash.copy()  # in half of the time that it takes to make one
    digest.update(id_)
    return id_[:_TIME_CHARACTERS].ljust(_TIME_CHARACTERS, b"\0") + digest.digest()


def _order(revision: Revision) -> tuple[bool, int, str]:
    return not revision.recovered, revision.received_at, revision.event_id


def _earliness(revision: Revision) -> tuple[int, bytes]:
    """Total: should one event id ever say two things at one time, it must not matter which came first."""
    return revision.received_at, msgspec.msgpack.encode(revision)
