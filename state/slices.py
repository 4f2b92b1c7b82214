"""Slices of partitions: as they lie in a topic, and as the fold takes them."""

from collections.abc import Callable, Sequence
from typing import Protocol

import msgspec

from schemas.topics import CALLERS_FACTS, CALLS_ENDED, CALLS_PREFETCH
from state.events import Announced, Ended, Fact, Unreadable, read_ended, read_fact, read_prefetched


class Message(Protocol):
    """A record of a topic; `timestamp` is when the broker appended it, in milliseconds since the epoch."""

    @property
    def offset(self) -> int: ...
    @property
    def timestamp(self) -> int: ...
    @property
    def key(self) -> bytes | None: ...
    @property
    def value(self) -> bytes | None: ...


class Slice(msgspec.Struct, frozen=True):
    """Consecutive messages of a partition. `topic` is named as in the catalogue; `next_offset` follows the slice."""

    topic: str
    partition: int
    next_offset: int
    messages: Sequence[Message]


class Skipped(msgspec.Struct, frozen=True):
    """What could not be read, and why: the whole event, or its cost alone."""

    topic: str
    partition: int
    offset: int
    reason: str


class ReadSlice(msgspec.Struct, frozen=True):
    """What its messages say, in their order: one of the lists has it all."""

    topic: str
    partition: int
    next_offset: int
    announced: list[Announced] = []
    ended: list[Ended] = []
    facts: list[Fact] = []
    skipped: list[Skipped] = []


def read_slice(part: Slice) -> ReadSlice:
    read = ReadSlice(part.topic, part.partition, part.next_offset)
    add = _ADD[part.topic]
    for message in part.messages:
        try:
            complaint = add(read, message)
        except Unreadable as error:
            complaint = str(error)
        if complaint is not None:
            read.skipped.append(Skipped(part.topic, part.partition, message.offset, complaint))
    return read


def _add_announced(read: ReadSlice, message: Message) -> None:
    announced = read_prefetched(message.value, message.timestamp)
    if announced is not None:
        read.announced.append(announced)


def _add_ended(read: ReadSlice, message: Message) -> str | None:
    ended = read_ended(message.value, message.timestamp)
    if ended is None:
        return None
    read.ended.append(ended)
    return ended.cost_error


def _add_fact(read: ReadSlice, message: Message) -> str | None:
    fact = read_fact(message.key, message.value)
    read.facts.append(fact)
    return fact.error


_ADD: dict[str, Callable[[ReadSlice, Message], str | None]] = {
    CALLS_PREFETCH.name: _add_announced,
    CALLS_ENDED.name: _add_ended,
    CALLERS_FACTS.name: _add_fact,
}
