"""The profiles against the log: what the topics say is folded anew, and compared with the store, to the byte."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import msgspec

from consumers.follower import Offsets
from consumers.state_replay import StateReplay
from consumers.stopping import Stopped
from runtime.clock import Clock, system_clock
from runtime.settings import Settings
from runtime.threads import in_thread
from schemas.topics import CALLERS_FACTS
from state.comparison import Difference, Unknown, differences
from state.layout import About
from state.rebuild import built_from_others, forgotten, missed_something
from state.scratch import scratch_in
from state.store import ProfileStore
from state.view import copy_store, view_of

KEPT_DIFFERENCES = 100

LOOK_EVERY_ROWS = 1_000  # for a stop

# Told what is done now, how far it is, and of how many.
Told = Callable[[str, int, int], None]


class Verification(msgspec.Struct):
    """`events` offsets lie before the positions. Of `rows`, `different` differ; the first of these are `differences`.

    Nothing can be said of `newer_facts`: they were written again after the copy of the store was taken, and compaction
    may have removed what they were before.
    """

    positions: dict[str, int] = {}
    events: int = 0
    rows: int = 0
    different: int = 0
    differences: list[Difference] = []
    newer_facts: int = 0


class Unverifiable(Exception):
    """The topics can't say what the store must be. The text says why."""


async def verify(
    settings: Settings, path: Path, stop: asyncio.Event, tell: Told, clock: Clock = system_clock
) -> Verification:
    """Compares a copy of the store in `path` with what the topics give when they are folded as far as the copy is.

    The copy and the second store lie on the disk of the first, and are gone afterwards; in memory are a batch of
    events, and the names of the facts that are written meanwhile.

    Raises `KafkaUnavailable`, `NoStore`, `NoRoom`, `Unverifiable` and `Stopped`; `Damaged` when the file itself is
    unreadable.
    """
    found = Verification()
    with scratch_in(settings.state_dir) as scratch:
        live = scratch / "live"
        live.mkdir()
        tell("Copying the store", 0, 0)
        await in_thread(lambda: copy_store(path, live, settings.state_room, stores=2))
        with view_of(live) as view:
            about, positions = view.about(), view.positions()
        rebuilt = ProfileStore(scratch / "rebuilt")
        try:
            unknown = await _fold(settings, about, positions, rebuilt, found, stop, tell, clock)
            await in_thread(_compare, live, rebuilt, unknown, found, stop, tell)
        finally:
            await in_thread(rebuilt.close)
    found.positions = {f"{topic}/{number}": offset for (topic, number), offset in sorted(positions.items())}
    return found


async def _fold(
    settings: Settings,
    about: About | None,
    positions: Offsets,
    rebuilt: ProfileStore,
    found: Verification,
    stop: asyncio.Event,
    tell: Told,
    clock: Clock,
) -> Unknown:
    """The facts of which nothing can be said."""
    facts = {where: offset for where, offset in positions.items() if where[0] == CALLERS_FACTS.name}
    async with StateReplay(
        settings, stop, lambda done: tell("Reading the log", min(done, found.events), found.events)
    ) as log:
        await log.confirm_ends(positions)
        _refuse(about, positions, log, clock() // 1000)
        found.events = sum(offset - log.starts[where] for where, offset in positions.items())
        # Facts first, and what came of them since: the less time between the two, the less compaction can take.
        await log.fold(rebuilt, facts)
        unknown = await log.facts_since(facts)
        await log.fold(rebuilt, {where: offset for where, offset in positions.items() if where not in facts})
    found.newer_facts = sum(map(len, unknown.values()))
    return unknown


def _refuse(about: About | None, positions: Offsets, log: StateReplay, now_ms: int) -> None:
    """Raises `Unverifiable`."""
    if about is None or not positions:
        raise Unverifiable("the store says nothing of where it comes from: its builder has not begun")
    if lost := forgotten(log.starts):
        raise Unverifiable(
            f"{lost}, and the store may know them. Compare it with that of another instance, by `ringlog state dump`"
        )
    reason = built_from_others(about, positions, log.lineage, log.starts, log.ends)
    if reason := reason or missed_something(about, positions, log.starts, now_ms):
        raise Unverifiable(f"the store does not go with these topics: {reason}")


def _compare(
    live: Path, rebuilt: ProfileStore, unknown: Unknown, found: Verification, stop: asyncio.Event, tell: Told
) -> None:
    with view_of(live) as view:
        total = sum(view.entries().values())
        for difference in differences(view.rows(), rebuilt.dump(), unknown):
            found.rows += 1
            if difference is not None:
                found.different += 1
                if len(found.differences) < KEPT_DIFFERENCES:
                    found.differences.append(difference)
            if found.rows % LOOK_EVERY_ROWS == 0:
                tell("Comparing", found.rows, total)
                if stop.is_set():
                    raise Stopped
