"""Folds the topics into one store: the builder for as long as it runs, a rebuild until it has caught up."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager

from consumers.follower import Follower, Offsets, Partition
from runtime.clock import Clock
from runtime.logs import logger
from runtime.metrics import FOLD_SKIPPED, FOLDED, STATE_LAG, STORE_BYTES, STORE_PROFILES
from runtime.settings import Settings
from runtime.threads import in_thread
from schemas.topics import CALLERS_FACTS
from state.fold import TOPICS
from state.layout import About
from state.slices import Skipped, Slice
from state.store import ProfileStore

LOOK_EVERY_S = 1.0  # lag, new partitions, a mark of damage
NOTE_EVERY_S = 60.0  # that the topics were seen until now: precise enough for an absence of weeks

log = logger("consumers.profiles")


@asynccontextmanager
async def following(settings: Settings) -> AsyncIterator[Follower]:
    """One life of a Kafka client over the topics that make a profile. Raises as `Follower.open`."""
    follower = Follower(settings, TOPICS, time.monotonic)
    try:
        await follower.open()
        yield follower
    finally:
        await follower.close()


class Folding:
    """`start`, then `step` again and again, until it raises: then a new client, or another store, is needed.

    `follower` has been opened; it and `store` belong to the caller.
    """

    def __init__(self, store: ProfileStore, follower: Follower, clock: Clock) -> None:
        self._store = store
        self._follower = follower
        self._clock = clock
        self._look_at = 0.0
        self._note_at = 0.0
        self.at: Offsets = {}  # as of the last look
        self.ends: Offsets = {}
        self.folded = 0  # messages
        self.caught_up = False  # once, in the life of the store

    @property
    def generation(self) -> str:
        return self._store.path.name

    @property
    def reached_ends(self) -> bool:
        """Whether it is past what the topics held when the client was made. While calls keep coming, there may be no
        moment without any lag."""
        return bool(self.at) and behind(self.at, self._follower.ends) == 0

    @property
    def lag(self) -> int | None:
        """Events that are in the topics and not in the store; None before it is known."""
        return behind(self.at, self.ends) if self.ends else None

    @property
    def passed(self) -> tuple[int, int]:
        """How many offsets were passed, of those that the topics have, as of the last look."""
        starts = self._follower.starts
        return behind(starts, self.at), behind(starts, self.ends)

    async def start(self, positions: Mapping[Partition, int]) -> None:
        """From the positions, and from the beginning where there is none."""
        about = await in_thread(self._store.about)
        if about is None:
            about = About(self._follower.lineage, False, self._clock() // 1000)
            await in_thread(self._store.set_about, about)
        self.caught_up = about.caught_up
        self._follower.start(positions)
        log.info(
            "reading",
            generation=self._store.path.name,
            partitions=len(self._follower.starts),
            behind=behind(positions, self._follower.ends),
        )

    async def step(self) -> bool:
        """Folds what has come. True when it has looked at where it is, about once a second.

        Raises `Damaged`, `Interrupted`, and the errors of Kafka, the disk and LMDB.
        """
        now = time.monotonic()
        slices = await self._follower.poll()
        measuring = asyncio.create_task(self._follower.measure()) if now >= self._look_at else None
        try:
            if slices:
                _count(slices, await in_thread(self._store.fold, slices))
                self.folded += sum(len(part.messages) for part in slices)
            if measuring is None:
                return False
            await self._look(*await measuring, note=now >= self._note_at)
        finally:
            if measuring is not None:
                measuring.cancel()
                measuring.add_done_callback(lambda done: done.cancelled() or done.exception())  # the fold's was first
        if now >= self._note_at:
            self._note_at = now + NOTE_EVERY_S
        self._look_at = now + LOOK_EVERY_S
        return True

    async def _look(self, at: Offsets, ends: Offsets, *, note: bool) -> None:
        store = self._store
        store.check()
        stored = await in_thread(store.positions)
        # What ends in records that were compacted away, or in marks of transactions, brings no message to fold.
        moved = [Slice(*where, offset, ()) for where, offset in at.items() if stored.get(where) != offset]
        if moved:
            await in_thread(store.fold, moved)
        self.at, self.ends = at, ends
        STATE_LAG.set(self.lag or 0)
        caught_up = self.caught_up or self.reached_ends
        saw_facts = all(at[where] == end for where, end in ends.items() if where[0] == CALLERS_FACTS.name)
        if caught_up != self.caught_up or (note and saw_facts):
            await in_thread(store.set_about, About(self._follower.lineage, caught_up, self._clock() // 1000))
        if caught_up and not self.caught_up:
            log.info("caught up", generation=store.path.name)
        self.caught_up = caught_up
        size, profiles = await in_thread(store.size)
        STORE_BYTES.set(size)
        STORE_PROFILES.set(profiles)
        if note:
            await in_thread(store.free_dead_readers)


def behind(at: Mapping[Partition, int], ends: Mapping[Partition, int]) -> int:
    return sum(max(0, end - at.get(where, 0)) for where, end in ends.items())


def _count(slices: Sequence[Slice], skipped: Sequence[Skipped]) -> None:
    for part in slices:
        FOLDED.labels(part.topic).inc(len(part.messages))
    for topic, number in Counter(event.topic for event in skipped).items():
        FOLD_SKIPPED.labels(topic).inc(number)
        first = next(event for event in skipped if event.topic == topic)
        log.warning(
            "events could not be read, and were gone past",
            topic=topic,
            number=number,
            first=f"{first.partition}/{first.offset}",
            reason=first.reason,
        )
