"""What one topic says of some callers, as of some of its offsets. With the other topic's half it is a profile."""

from collections.abc import Iterable, Mapping

import msgspec

from schemas.event import Record
from schemas.topics import Topic
from state.fold import Fold
from state.memory import Memory
from state.profile import ProfileRow
from state.slices import Slice, read_slice

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(ProfileRow).decode


class _Message(msgspec.Struct, frozen=True):
    """A `state.slices.Message`."""

    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None


class Half:
    """`wanted` are the offsets, by caller, before which the records count. Give it each partition in its order.

    Each caller is folded by itself: what is said of one may lie in another partition than what is said of another, and
    so must change nothing that depends on offsets.
    """

    def __init__(self, topic: Topic, wanted: Mapping[bytes, Iterable[int]]) -> None:
        self._topic = topic
        self._memories = {caller: Memory() for caller in wanted}
        # The nearest last, to be taken from there.
        self._waiting = {caller: sorted(set(offsets), reverse=True) for caller, offsets in wanted.items()}
        self._rows: dict[tuple[bytes, int], bytes] = {}

    def add(self, record: Record) -> None:
        caller = (record.key or b"").partition(b"/")[0]  # a fact's key is the caller's and the fact's name
        waiting = self._waiting.get(caller)
        if waiting is None:
            return
        while waiting and waiting[-1] <= record.offset:
            self._rows[caller, waiting.pop()] = self._now(caller)
        message = _Message(record.offset, record.appended_ms, record.key, record.value)
        memory = self._memories[caller]
        fold = Fold(memory)
        fold.add(read_slice(Slice(self._topic.name, record.partition, record.offset + 1, [message])))
        fold.settle()
        memory.keep(fold)

    def row(self, caller: bytes, offset: int | None) -> ProfileRow:
        """As of one of the wanted offsets; None: after everything that was added."""
        known = None if offset is None else self._rows.get((caller, offset))
        return _decode(self._now(caller) if known is None else known)

    def _now(self, caller: bytes) -> bytes:
        memory = self._memories.get(caller)
        return _encode((memory and memory.profile(caller)) or ProfileRow())
