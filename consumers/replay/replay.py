"""A replay from its beginning to its end: the shadow is built, compared with the live tables, and swapped in."""

import asyncio
from collections.abc import Callable, Mapping
from contextlib import ExitStack, aclosing

import msgspec
from sqlalchemy import Connection, Engine

from consumers import positions, revisions
from consumers.billing import Billing
from consumers.call_log import CallLog
from consumers.contract import Consumer
from consumers.database import read_only
from consumers.plans import load_plans
from consumers.positions import Partition
from consumers.recordings import Recordings
from consumers.replay import corrections
from consumers.replay.books import BOOKS
from consumers.replay.building import Building, Failure, Told
from consumers.replay.comparison import Change, Comparison, Differing, Total
from consumers.replay.kept_charges import KeptCharges
from consumers.replay.lock import locked
from consumers.replay.log import Log
from consumers.replay.recipe import Recipe, Window
from consumers.replay.shadow import Shadow
from consumers.replay.swap import Hold, Swap, Swapped, patiently
from consumers.replay.window import Bound, forgotten, window_of
from consumers.rereading import refuse_rereading
from consumers.transcripts import Transcripts
from runtime.settings import Settings
from runtime.threads import in_thread

# While so many are left the comparison can begin, or the live consumer wait: it is a second's work.
SMALL_REST = 2_000

# Each round reads what the live consumer has read during the last one. One that is always ahead by more is followed no
# further.
ROUNDS = 20


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """What was asked for. A shadow that is there keeps its window, unless another one is said, or the `whole` log."""

    consumer: str
    whole: bool = False
    since: Bound | None = None
    until: Bound | None = None
    fresh: bool = False
    partial: bool = False
    new_terms: bool = False
    swap: bool = False
    quiet: bool = False
    longest_lock_s: float = 60.0
    show: int = 10


class Report(msgspec.Struct, kw_only=True):
    """What came of it. `anew` says why a shadow that was there was of no use.

    `events` were read, this time and before, of `sessions`. `differing` sessions differ; `changes` and `totals` are of
    them, `first` the first of them. `moved` sessions had events while they were compared, `partial` ones were not read
    whole, and `failed` ones have an event that the code can't handle: all of them are left as they are.
    """

    consumer: str
    window: Window
    anew: str | None = None
    events: int = 0
    sessions: int = 0
    differing: int = 0
    changes: list[Change] = []
    totals: list[Total] = []
    first: list[Differing] = []
    moved: int = 0
    partial: int = 0
    failed: int = 0
    failures: list[Failure] = []
    given_up: int = 0
    swapped: Swapped | None = None


class Refused(ConnectionError):
    """A sentence for people: to go on would take something away."""


async def replay(settings: Settings, live: Engine, wanted: Wanted, stop: asyncio.Event, tell: Told) -> Report:
    """Raises `KafkaUnavailable`, `PositionMismatch`, `ReplayBusy`, `Refused`, `WrongWindow`, `TooLong`, `Interrupted`,
    and what the database raises."""
    consumer = _consumer(settings, wanted, live)
    shadow = Shadow(live, wanted.consumer)
    with ExitStack() as stack:
        stack.callback(shadow.close)
        await in_thread(stack.enter_context, locked(live, wanted.consumer, shadow.lock_file))
        async with Log(settings, BOOKS[wanted.consumer].topics) as log:
            recipe, anew = await _prepared(settings, shadow, wanted, log)
            run = _Run(shadow, Building(shadow, consumer, recipe, log, live), recipe, log, wanted, stop, tell)
            run.report.anew = anew
            await run.build()
            await run.compare()
            if wanted.swap and (run.report.differing or run.report.moved):
                await run.swap()
    if run.report.swapped or not run.report.differing:
        await in_thread(shadow.drop)
    return run.report


def _consumer(settings: Settings, wanted: Wanted, live: Engine) -> Consumer:
    plans = load_plans(settings) if wanted.consumer == "billing" else None
    make: dict[str, Callable[[], Consumer]] = {
        "billing": lambda: Billing(plans, None if wanted.new_terms else KeptCharges(plans, live)),
        "transcripts": Transcripts,
        "recordings": Recordings,
        "calls": CallLog,
    }
    return make[wanted.consumer]()


async def _prepared(settings: Settings, shadow: Shadow, wanted: Wanted, log: Log) -> tuple[Recipe, str | None]:
    """The recipe of the shadow, which is there afterwards, and why it had to be made anew, if one was there."""
    there = None if wanted.fresh else await in_thread(shadow.recipe)
    said = wanted.whole or wanted.since or wanted.until or wanted.partial
    if there is not None and not said:
        window = there.window
    else:
        window = await window_of(log, settings.topic_prefix, wanted.since, wanted.until, wanted.partial)
    recipe = Recipe.of(settings, wanted.consumer, window, log.cluster_id, wanted.new_terms)
    reason: str | None = None
    if there is not None:
        reason = there.differs(recipe) or await in_thread(_overtaken, shadow, log)
        if reason is None:
            return there, None
    if (lost := forgotten(log, window)) is not None:
        raise Refused(lost)
    await in_thread(shadow.make, recipe)
    return recipe, reason


def _overtaken(shadow: Shadow, log: Log) -> str | None:
    with shadow.engine.begin() as tx:
        at = positions.load(tx, shadow.consumer, log.cluster_id)
    lost = any(at[partition] < log.starts.get(partition, 0) for partition in at)
    return "the log has forgotten events that it had not read yet" if lost else None


class _Run:
    def __init__(
        self,
        shadow: Shadow,
        building: Building,
        recipe: Recipe,
        log: Log,
        wanted: Wanted,
        stop: asyncio.Event,
        tell: Told,
    ) -> None:
        self._shadow = shadow
        self._building = building
        self._recipe = recipe
        self._log = log
        self._wanted = wanted
        self._stop = stop
        self._tell = tell
        self._comparison = Comparison(shadow, recipe.window.partial)
        self._moved: set[str] = set()
        self.report = Report(consumer=wanted.consumer, window=recipe.window)

    async def build(self) -> None:
        await self._building.begin()
        if not await self._building.targets():
            raise Refused(f"{self._wanted.consumer} has read nothing yet: there is nothing to compare with.")
        await self._follow(None)
        await in_thread(self._shadow.analyze)
        await in_thread(self._count)

    async def _follow(self, moved: set[str] | None) -> None:
        """Until the live consumer is near. It is waited for nowhere."""
        for _ in range(ROUNDS):
            targets = await self._building.targets()
            rest = self._building.behind(targets)
            await self._building.catch_up(targets, self._tell, self._stop, moved)
            if rest <= SMALL_REST:
                return

    def _count(self) -> None:
        report = self.report
        with self._shadow.engine.begin() as tx:
            report.sessions = revisions.count_sessions(tx, self._wanted.consumer)
            report.failures = self._building.found(tx)
            report.given_up = self._building.left_out(tx)
            report.events = self._building.read_in_all(tx)

    async def compare(self) -> None:
        """Both as they are at one moment. Sessions of what only the live consumer has read by then are left out."""
        self._tell("Comparing", 0, 0)
        with ExitStack() as stack:
            tx = await in_thread(stack.enter_context, self._shadow.beside_live())
            targets = await self._building.targets(tx)
            self._moved = await self._building.look(targets)
            await in_thread(self._compare, tx)
            if self.report.differing and not self._recipe.window.partial:
                await self._refuse_rereading(tx, targets)
            await in_thread(stack.close)

    async def _refuse_rereading(self, tx: Connection, targets: Mapping[Partition, int]) -> None:
        with read_only(self._shadow.engine).connect() as anew:
            unread = self._building.beyond(targets, self._stop)
            async with aclosing(unread):
                await refuse_rereading(self._wanted.consumer, unread, tx, anew)

    def _compare(self, tx: Connection) -> None:
        it, report = self._comparison, self.report
        it.find(tx)
        report.moved = it.leave(tx, self._moved)
        report.failed = it.leave_failed(tx)
        it.leave_parts(tx)
        report.partial = it.parts(tx)
        report.differing = it.sessions(tx)
        report.changes = it.changes(tx)
        report.totals = it.totals(tx)
        report.first = it.first(tx, self._wanted.show)
        if self._wanted.swap and not self._wanted.quiet:
            corrections.prepare(tx, self._shadow, self._recipe.id)

    async def swap(self) -> None:
        """Nothing or all of it: one transaction. The tail is read before it, and only what came since then in it."""
        await self._follow(self._moved)
        wanted, swap = self._wanted, Swap(self._shadow, self._comparison, self._recipe.id)
        self._tell("Swapping", 0, 0)
        await in_thread(self._shadow.analyze)
        with self._shadow.into_live(wanted.longest_lock_s * 2) as tx:
            await patiently(tx, lambda: swap.lock(tx, self._log.cluster_id, self._log.starts))
            hold = Hold(wanted.consumer, wanted.longest_lock_s)
            try:
                async with asyncio.timeout(hold.left_s):
                    targets = await self._building.targets(tx)
                    await self._building.catch_up(targets, self._tell, self._stop, self._moved)
            except TimeoutError:
                raise hold.too_long() from None
            sessions, told = await in_thread(swap.replace, tx, self._moved, hold, wanted.quiet)
        self.report.swapped = Swapped(sessions, told, hold.held_s)
