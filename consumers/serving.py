"""Folds on into the generation of the profiles that is served."""

import asyncio
from collections.abc import Callable, Mapping
from pathlib import Path

from consumers.folding import Folding, following
from consumers.follower import Follower, Partition
from runtime.clock import Clock
from runtime.logs import logger
from runtime.settings import Settings
from runtime.threads import in_thread
from state.generations import Generations
from state.layout import Damaged
from state.rebuild import built_from_others, forgotten, missed_something
from state.store import ProfileStore

log = logger("consumers.profiles")


class Unusable(Exception):
    """The generation can't be folded on; the text says why. `wrong`: nor may it be served any more."""

    def __init__(self, reason: str, *, wrong: bool) -> None:
        super().__init__(reason)
        self.wrong = wrong


class Serving:
    """`progress` is told after every step whose folding it is."""

    def __init__(
        self, settings: Settings, generations: Generations, clock: Clock, progress: Callable[[Folding], None]
    ) -> None:
        self._settings = settings
        self._generations = generations
        self._clock = clock
        self._progress = progress

    async def run(self, path: Path, stop: asyncio.Event) -> None:
        """One life of a Kafka client, until `stop`, or until another generation is served, or offered.

        Raises `Unusable`, `StoreBusy`, and the errors of Kafka, the disk and LMDB.
        """
        try:
            store = await in_thread(ProfileStore, path)
        except Damaged as error:
            raise Unusable(str(error), wrong=True) from error
        try:
            async with following(self._settings) as follower:
                folding = Folding(store, follower, self._clock)
                await folding.start(await self._positions(store, follower))
                while not stop.is_set():
                    looked = await folding.step()
                    self._progress(folding)
                    if looked and await in_thread(self.is_over, path):
                        return
        except Damaged as error:
            raise Unusable(str(error), wrong=True) from error
        finally:
            await in_thread(store.close)

    def is_over(self, path: Path) -> bool:
        """Whether another generation is served, or waits for the builder to take it over."""
        return self._generations.serving() != path or self._generations.offered() is not None

    async def _positions(self, store: ProfileStore, follower: Follower) -> Mapping[Partition, int]:
        """Where it goes on. Raises `Unusable`."""
        about, positions = store.about(), store.positions()
        if about is None:  # opening it has made it anew, and another generation is built beside, never in its place
            raise Unusable("its files were deleted", wrong=True)
        await follower.confirm_ends(positions)
        starts = follower.starts
        if reason := built_from_others(about, positions, follower.lineage, starts, follower.ends):
            raise Unusable(reason, wrong=True)
        reason = missed_something(about, positions, starts, self._clock() // 1000)
        if reason is None:
            return positions
        lost = forgotten(starts)
        if lost is None or self._settings.allow_forgetful_topics:
            raise Unusable(reason, wrong=False)
        log.error(
            "the state store lacks events, and is folded on: a new one would know even less."
            " `ringlog state rebuild --forgetful` makes one all the same",
            generation=store.path.name,
            reason=reason,
            lost=lost,
        )
        return {where: max(positions.get(where, 0), start) for where, start in starts.items()}
