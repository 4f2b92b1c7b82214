"""The profiles of some callers as they were at some prefetches, folded anew from the log."""

import asyncio
from collections.abc import Sequence

import msgspec

from cli.explainer.announcement import Announcement, Interrupted, Told
from cli.explainer.half import Half
from consumers.log_reader import LogReader
from consumers.positions import Partition
from runtime.settings import Settings
from schemas.partition import partition_of
from schemas.topics import CALLERS_FACTS, CALLS_ENDED, Topic
from state.profile import Profile, ProfileRow

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Profile).decode


class _Read(msgspec.Struct):
    """A topic's half, and how far its partitions reach."""

    half: Half
    starts: dict[Partition, int]
    ends: dict[Partition, int]

    def of(self, caller: bytes) -> Partition:
        return sorted(self.ends)[partition_of(caller, len(self.ends))]


class Past:
    """Calls and facts of a caller are two halves of the profile that change nothing of each other."""

    def __init__(self, calls: _Read, facts: _Read) -> None:
        self._calls = calls
        self._facts = facts

    def profile(self, it: Announcement) -> Profile | None:
        """What the state said, when it was as far as the event says. None: nothing was known of the caller."""
        answered = it.event.answered
        assert answered is not None  # noqa: S101 - `why_not` is asked before
        return self._profile(it.caller, answered.ended_offset, answered.facts_offset)

    def profile_now(self, it: Announcement) -> Profile | None:
        """As the log says now."""
        return self._profile(it.caller, None, None)

    def why_not(self, it: Announcement) -> str | None:
        """Why the profile of then can't be known, in a sentence."""
        answered = it.event.answered
        if answered is None:
            return "The event is older than what events remember of their answers."
        for read, offset in ((self._calls, answered.ended_offset), (self._facts, answered.facts_offset)):
            topic, number = place = read.of(it.caller)
            if offset is None:
                return "The event does not say how far the state had read."
            if offset > read.ends[place]:
                return f"{topic}/{number} ends at {read.ends[place]}, before {offset}: the topic was made anew since."
        return None

    def forgotten(self, it: Announcement) -> str | None:
        """Calls that the log has no more, in a sentence."""
        topic, number = place = self._calls.of(it.caller)
        start = self._calls.starts[place]
        return f"{topic}/{number} begins at {start}: what was before is forgotten." if start else None

    def _profile(self, caller: bytes, ended: int | None, facts: int | None) -> Profile | None:
        row: ProfileRow = self._calls.half.row(caller, ended)
        row.facts = self._facts.half.row(caller, facts).facts
        profile = _decode(_encode(row))
        return profile if profile.tells else None


async def recall(settings: Settings, wanted: Sequence[Announcement], stop: asyncio.Event, tell: Told) -> Past:
    """Reads the partitions of these callers, from their beginning to their end, each once.

    In memory is what is folded of these callers. Raises `KafkaUnavailable` and `Interrupted`.
    """
    ended: dict[bytes, set[int]] = {it.caller: set() for it in wanted}
    facts: dict[bytes, set[int]] = {it.caller: set() for it in wanted}
    for it in wanted:
        answered = it.event.answered
        if answered is not None and answered.ended_offset is not None and answered.facts_offset is not None:
            ended[it.caller].add(answered.ended_offset)
            facts[it.caller].add(answered.facts_offset)
    return Past(
        await _read(settings, CALLS_ENDED, ended, "Folding calls", stop, tell),
        await _read(settings, CALLERS_FACTS, facts, "Folding facts", stop, tell),
    )


async def _read(
    settings: Settings, topic: Topic, wanted: dict[bytes, set[int]], what: str, stop: asyncio.Event, tell: Told
) -> _Read:
    async with LogReader(settings, topic.named(settings.topic_prefix)) as log:
        read = _Read(Half(topic, wanted), log.starts, log.ends)
        targets = {place: log.ends[place] for place in {read.of(caller) for caller in wanted}}
        total = log.events_before(targets)
        async for records in log.read(targets):
            for record in records:
                read.half.add(record)
            tell(what, total - log.events_before(targets), total)
            if stop.is_set():
                raise Interrupted
    return read
