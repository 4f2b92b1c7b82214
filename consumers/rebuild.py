"""Builds a new generation of the profiles beside the one that is served."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

from consumers.folding import Folding, following
from consumers.follower import Follower
from runtime.clock import Clock
from runtime.logs import logger
from runtime.settings import Settings
from runtime.threads import in_thread
from state.generations import FROM_SNAPSHOT, Generations
from state.layout import DATA_FILE, Damaged
from state.rebuild import built_from_others, forgotten, missed_something
from state.room import NoRoom
from state.store import ProfileStore

log = logger("consumers.profiles")


# An unfinished generation that is to be gone on with, or None.
Restore = Callable[[Follower], Awaitable[Path | None]]


# Of the size of what is served: even one that is as large by now grows on, or it would be served.
_AT_LEAST = 10


class Forgetful(Exception):
    """The topics have lost their beginning, so a new generation would know less than they once said; one sentence."""


class Rebuild:
    """Goes on with the unfinished generation that there is, or begins one, if it `may_begin`.

    `may_forget`: also when the topics have lost their beginning. `may_fill`: also when the disk has no room for another
    one as large as what is served. `progress` is told after every step; the folding's numbers are there to be shown.
    `restore` may have one that is nearly there, instead of an empty one.
    """

    def __init__(
        self,
        settings: Settings,
        generations: Generations,
        clock: Clock,
        *,
        may_forget: bool,
        may_begin: bool = True,
        may_fill: bool = False,
        progress: Callable[[Folding], None] = lambda _folding: None,
        restore: Restore | None = None,
    ) -> None:
        self._settings = settings
        self._generations = generations
        self._clock = clock
        self._may_forget = may_forget
        self._may_begin = may_begin
        self._may_fill = may_fill
        self._progress = progress
        self._restore = restore
        self.resumed = False  # whether there was something to go on with
        self.path: Path | None = None
        self.profiles = 0

    @property
    def generation(self) -> str:
        """Its name, once there is one."""
        return self.path.name if self.path else ""

    async def run(self, stop: asyncio.Event) -> Path | None:
        """The generation, when it has everything that the topics held when this began; None when stopped before, or
        when there is none to go on with.

        It is not served yet. Whoever calls holds `Generations.rebuilding` from before this until it is served. Raises
        `Forgetful`, `NoRoom`, `StoreBusy`, `Damaged` (call it again: another one is begun), and the errors of Kafka,
        the disk and LMDB (call it again: it goes on).
        """
        async with following(self._settings) as follower:
            store = await self._open(follower, stop)
            if store is None:
                return None
            self.path = store.path
            try:
                return store.path if await self._fill(store, follower, stop) else None
            except Damaged:
                await in_thread(store.close)
                await in_thread(self._generations.discard, store.path)
                raise
            finally:
                await in_thread(store.close)

    async def _fill(self, store: ProfileStore, follower: Follower, stop: asyncio.Event) -> bool:
        """False when it was stopped first."""
        folding = Folding(store, follower, self._clock)
        await folding.start(store.positions())
        while not folding.reached_ends:
            if stop.is_set():
                return False
            await folding.step()
            self._progress(folding)
        await in_thread(store.sync)
        self.profiles = store.size()[1]
        return True

    async def _open(self, follower: Follower, stop: asyncio.Event) -> ProfileStore | None:
        if self._may_begin and not self._may_fill:
            await in_thread(self._demand_room)
        path = await in_thread(self._generations.unfinished)
        if path is not None and self._restore is None and (path / FROM_SNAPSHOT).exists():
            await in_thread(self._generations.discard, path)  # this one is to be from the beginning of the topics
            path = None
        if path is not None:
            store = await self._continued(path, follower)
            if store is not None:
                self.resumed = self.resumed or self.path is None
                log.info("an unfinished generation is gone on with", generation=path.name)
                return store
            await in_thread(self._generations.discard, path)
        if not self._may_begin:
            return None
        if self._restore is not None:
            path = await self._restore(follower)
            if path is not None:
                return await in_thread(ProfileStore, path)
            if stop.is_set():
                return None  # it would be begun without a snapshot that there may be
        lost = forgotten(follower.starts)
        if lost is not None and not self._may_forget:
            raise Forgetful(lost)
        if lost is not None:
            log.warning("the topics have forgotten their beginning, and so will the profiles", reason=lost)
        path = await in_thread(self._generations.begin)
        log.info("a new generation of the state store is built", generation=path.name)
        return await in_thread(ProfileStore, path)

    def _demand_room(self) -> None:
        """Raises `NoRoom`. Then what there is of the new generation is given up: it would keep its place for no use."""
        served, unfinished = self._generations.serving(), self._generations.unfinished()
        whole = 0 if served is None else _bytes_of(served)
        lacking = max(whole - (0 if unfinished is None else _bytes_of(unfinished)), whole // _AT_LEAST)
        try:
            self._settings.state_room.demand("A new generation beside the one that is served", lacking)
        except NoRoom as error:
            if unfinished is not None:
                log.error("an unfinished generation is given up", generation=unfinished.name, reason=str(error))
                self._generations.discard(unfinished)
            raise

    async def _continued(self, path: Path, follower: Follower) -> ProfileStore | None:
        """None when it is of no use any more."""
        try:
            store = await in_thread(ProfileStore, path)
        except Damaged as error:
            log.error("an unfinished generation is given up", generation=path.name, reason=str(error))
            return None
        try:
            about, positions = store.about(), store.positions()
            await follower.confirm_ends(positions)
            starts = follower.starts
            reason = built_from_others(about, positions, follower.lineage, starts, follower.ends)
            reason = reason or missed_something(about, positions, starts, self._clock() // 1000)
        except BaseException:
            await in_thread(store.close)
            raise
        if reason is None:
            return store
        log.error("an unfinished generation is given up", generation=path.name, reason=reason)
        await in_thread(store.close)
        return None


def _bytes_of(path: Path) -> int:
    file = path / DATA_FILE
    return file.stat().st_size if file.exists() else 0
