"""The profile builder: folds the topics into the state store of this machine, and nothing else does.

It belongs to no group and is never in the way of a call. It doesn't end before it is told to: whatever is away is
waited for, whatever can't be read is counted and gone past, and a store that can't be continued is built anew.
"""

import asyncio
import contextlib
import time
import traceback
from collections import Counter
from collections.abc import Sequence

import lmdb
from aiokafka.errors import KafkaError
from starlette.routing import Route

from consumers.backoff import Backoff
from consumers.builder_start import BuilderStart
from consumers.follower import Follower, Offsets
from runtime.clock import Clock, system_clock
from runtime.logs import logger
from runtime.metrics import FOLD_SKIPPED, FOLDED, STATE_LAG, STORE_BYTES, STORE_PROFILES
from runtime.ops import Health, ops_app
from runtime.server import HttpServer
from runtime.settings import Settings, SettingsError
from runtime.threads import in_thread
from runtime.topics import refuse_forgetful
from schemas.topics import CALLERS_FACTS
from state.fold import TOPICS, Skipped, Slice
from state.layout import About, Damaged
from state.lock import StoreBusy
from state.rebuild import reason_to_rebuild
from state.store import ProfileStore

LOOK_EVERY_S = 1.0  # lag, new partitions, a mark of damage
NOTE_EVERY_S = 60.0  # that the topics were seen until now: precise enough for an absence of weeks
WAIT_FOR_STORE_S = 1.0
OPS_GRACE_S = 0.5

log = logger("consumers.profiles")


async def build_profiles(settings: Settings, stop: asyncio.Event) -> None:
    """Until `stop`; then the batch in flight is committed.

    Raises `SettingsError` for an address that can't be had, and for topics that would forget.
    """
    settings.bootstrap_servers  # noqa: B018 - says at once that it is missing
    builder = ProfileBuilder(settings)
    app = ops_app(builder.health, [Route("/health/started", BuilderStart(builder.health).answer)])
    ops = HttpServer(app, settings.host, settings.ops_port, name="ops", port_setting="RINGLOG_OPS_PORT")
    await ops.start()
    log.info("started", ops_port=ops.port)
    try:
        await builder.run(stop)
    finally:
        await ops.stop(OPS_GRACE_S)
    log.info("stopped")


class ProfileBuilder:
    def __init__(self, settings: Settings, clock: Clock = system_clock) -> None:
        self._settings = settings
        self._clock = clock
        self._store: ProfileStore | None = None
        self._topics_checked = False
        self._reading = False
        self._caught_up = False
        self._at: Offsets = {}
        self._ends: Offsets = {}

    def health(self) -> Health:
        """Ready once the store has caught up for the first time: from then on it answers, with whatever lag."""
        return Health(
            self._caught_up,
            {
                "store": "open" if self._store else "waiting for another builder to leave it, or for the disk",
                "kafka": "reading" if self._reading else "waiting",
                "caught_up": self._caught_up,
                "lag": self._lag(),
                "positions": {f"{topic}/{number}": offset for (topic, number), offset in sorted(self._at.items())},
            },
        )

    async def run(self, stop: asyncio.Event) -> None:
        store = await self._open_store(stop)
        if store is None:
            return
        self._store = store
        backoff = Backoff()
        try:
            while not stop.is_set():
                try:
                    await self._follow(store, stop, backoff)
                except SettingsError:
                    raise
                except Damaged as error:
                    await self._start_over(store, str(error), stop, backoff)
                except Exception as error:
                    _tell(error)
                    await backoff.wait(stop)
        finally:
            self._store = None
            await in_thread(store.close)

    async def _open_store(self, stop: asyncio.Event) -> ProfileStore | None:
        """None when it was stopped first. A builder that is being replaced may take a moment to leave."""
        told = ""
        while not stop.is_set():
            try:
                store = await in_thread(ProfileStore, self._settings.state_dir)
            except (StoreBusy, OSError, lmdb.Error) as error:
                if str(error) != told:
                    log.warning("the state store can't be opened yet", reason=str(error))
                    told = str(error)
                with contextlib.suppress(TimeoutError):  # the usual end of a wait
                    await asyncio.wait_for(stop.wait(), WAIT_FOR_STORE_S)
                continue
            if store.reset_reason:
                log.error("the state store is built anew", reason=store.reset_reason)
            return store
        return None

    async def _follow(self, store: ProfileStore, stop: asyncio.Event, backoff: Backoff) -> None:
        """One life of a Kafka client. Returns when stopped; raises when a new client, or a new store, is needed."""
        follower = Follower(self._settings, TOPICS, time.monotonic)
        try:
            if not self._topics_checked:
                await refuse_forgetful(self._settings, TOPICS)
                self._topics_checked = True
            await follower.open()
            await self._take_up(store, follower)
            self._reading = True
            look_at = note_at = 0.0
            while not stop.is_set():
                slices = await follower.poll()
                if slices:
                    _count(slices, await in_thread(store.fold, slices))
                    backoff.reset()
                now = time.monotonic()
                if now >= look_at:
                    await self._look(store, follower, note=now >= note_at)
                    note_at = now + NOTE_EVERY_S if now >= note_at else note_at
                    look_at = now + LOOK_EVERY_S
        finally:
            self._reading = False
            await follower.close()

    async def _take_up(self, store: ProfileStore, follower: Follower) -> None:
        """Goes on where the store ends, or from the beginning when it can't."""
        positions = store.positions()
        await follower.confirm_ends(positions)
        now_ms = self._clock() // 1000
        about = store.about()
        reason = reason_to_rebuild(about, positions, follower.lineage, follower.starts, follower.ends, now_ms)
        if reason is not None:
            log.error("the state store is built anew", reason=reason)
            self._caught_up = False
            await in_thread(store.reset, reason)
            about, positions = None, {}
        if about is None:
            about = About(follower.lineage, False, now_ms)
            await in_thread(store.set_about, about)
            _tell_of_forgotten(follower.starts)
        self._caught_up = about.caught_up
        follower.start(positions)
        log.info("reading", partitions=len(follower.starts), behind=_behind(positions, follower.ends))

    async def _look(self, store: ProfileStore, follower: Follower, *, note: bool) -> None:
        """Raises `Damaged` and what `Follower.measure` raises."""
        store.check()
        self._at, self._ends = await follower.measure()
        STATE_LAG.set(self._lag() or 0)
        stored = await in_thread(store.positions)
        # What ends in records that were compacted away, or in marks of transactions, brings no message to fold.
        moved = [Slice(*where, offset, ()) for where, offset in self._at.items() if stored.get(where) != offset]
        if moved:
            await in_thread(store.fold, moved)
        # Compared with the ends at the start: while calls keep coming, there may be no moment without any lag.
        caught_up = self._caught_up or _behind(self._at, follower.ends) == 0
        saw_facts = all(self._at[where] == end for where, end in self._ends.items() if where[0] == CALLERS_FACTS.name)
        if caught_up != self._caught_up or (note and saw_facts):
            await in_thread(store.set_about, About(follower.lineage, caught_up, self._clock() // 1000))
        if caught_up and not self._caught_up:
            log.info("caught up")
        self._caught_up = caught_up
        size, profiles = await in_thread(store.size)
        STORE_BYTES.set(size)
        STORE_PROFILES.set(profiles)
        if note:
            await in_thread(store.free_dead_readers)

    async def _start_over(self, store: ProfileStore, reason: str, stop: asyncio.Event, backoff: Backoff) -> None:
        log.error("the state store is built anew", reason=reason)
        self._caught_up = False
        await backoff.wait(stop)  # a disk that spoils everything must not keep a core busy
        try:
            await in_thread(store.reset, reason)
        except (OSError, lmdb.Error) as error:
            _tell(error)

    def _lag(self) -> int | None:
        """None before it is known."""
        return _behind(self._at, self._ends) if self._ends else None


def _behind(at: Offsets, ends: Offsets) -> int:
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


def _tell_of_forgotten(starts: Offsets) -> None:
    for (topic, number), start in starts.items():
        if start > 0 and topic != CALLERS_FACTS.name:
            log.warning(
                "the topic has forgotten its beginning, and so will the profiles", topic=topic, partition=number
            )


def _tell(error: Exception) -> None:
    name = type(error).__name__
    if isinstance(error, KafkaError | ConnectionError | TimeoutError):
        log.warning("the connection to Kafka is made anew", error=name, reason=str(error))
    elif isinstance(error, lmdb.Error | OSError):
        log.error("the state store can't be written", error=name, reason=str(error))
    else:  # a fault of ours; its text may quote an event
        where = traceback.format_tb(error.__traceback__)
        log.error("the builder starts anew from what it has committed", error=name, where=where)
