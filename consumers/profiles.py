"""The profile builder: folds the topics into the state store of this machine, and nothing else does.

It belongs to no group and is never in the way of a call. It doesn't end before it is told to: whatever is away is
waited for, whatever can't be read is counted and gone past, and when the store can't be continued, a new generation is
built while the one that is served answers on.
"""

import asyncio
import contextlib
import time
import traceback
from pathlib import Path

import lmdb
from aiokafka.errors import KafkaError
from starlette.routing import Route

from consumers.backoff import Backoff
from consumers.builder_start import BuilderStart
from consumers.folding import Folding
from consumers.rebuild import Forgetful, Rebuild
from consumers.serving import Serving, Unusable
from consumers.snapshots.restoring import Restoring
from runtime.clock import Clock, system_clock
from runtime.logs import logger
from runtime.metrics import STATE_BUILDING, STATE_STALE
from runtime.ops import Health, ops_app
from runtime.server import HttpServer
from runtime.settings import Settings, SettingsError
from runtime.threads import in_thread
from runtime.topics import refuse_forgetful
from state.fold import FOLD_VERSION, TOPICS
from state.generations import Generations, version_of
from state.layout import Damaged
from state.lock import Lock, StoreBusy
from state.reader import answers
from state.room import NoRoom

LOOK_EVERY_S = 1.0  # for another process that leaves, and for a generation that is offered
REFUSED_FOR_S = 60.0  # a topic that has lost its beginning doesn't get it back
OPS_GRACE_S = 0.5

# Why what answers goes on answering as it is.
_REFUSED: dict[type[Exception], str] = {
    Forgetful: "no new generation of the state store is built: it would know less than the one that is served, which is"
    " not folded on. `ringlog state rebuild --forgetful` builds it all the same",
    NoRoom: "no new generation of the state store is built: the disk has no room for it beside the one that is served,"
    " which is not folded on. Deleting that one makes room, and callers unknown until another has caught up",
}

log = logger("consumers.profiles")


async def build_profiles(settings: Settings, stop: asyncio.Event) -> None:
    """Until `stop`; then the batch in flight is committed.

    Raises `SettingsError` for an address that can't be had, a wrong URL of snapshots, and topics that would forget.
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
        self._generations = Generations(settings.state_dir)
        self._restoring = Restoring(settings, self._generations, clock)
        self._serving = Serving(settings, self._generations, clock, self._served)
        self._backoff = Backoff()
        self._topics_checked = False
        self._doing = "waiting for the state directory"
        self._told = ""
        self._reading = False
        self._answers = False
        self._stale = False
        self._folding: Folding | None = None
        self._folded = 0

    def health(self) -> Health:
        """Ready once there is a generation that has caught up: from then on it answers, with whatever lag."""
        folding = self._folding
        at = folding.at if folding else {}
        return Health(
            self._answers,
            {
                "store": self._doing,
                "generation": folding.generation if folding else None,
                "stale": self._stale,
                "kafka": "reading" if self._reading else "waiting",
                "caught_up": folding is not None and folding.caught_up,
                "lag": folding.lag if folding else None,
                "positions": {f"{topic}/{number}": offset for (topic, number), offset in sorted(at.items())},
            },
        )

    async def run(self, stop: asyncio.Event) -> None:
        lock = await self._alone(stop)
        if lock is None:
            return
        try:
            while not stop.is_set():
                try:
                    await self._work(stop)
                except SettingsError:
                    raise
                except StoreBusy as error:
                    await self._wait(str(error), stop)
                except Exception as error:
                    _tell(error)
                    await self._backoff.wait(stop)
                finally:
                    self._reading = False
        finally:
            lock.release()

    async def _alone(self, stop: asyncio.Event) -> Lock | None:
        """None when it was stopped first. A builder that is being replaced may take a moment to leave."""
        while not stop.is_set():
            try:
                return self._generations.building()
            except (StoreBusy, OSError) as error:
                await self._wait(str(error), stop)
        return None

    async def _work(self, stop: asyncio.Event) -> None:
        """One life of a Kafka client. Returns when there may be something else to do; raises when it is to be made
        anew."""
        if not self._topics_checked:
            await refuse_forgetful(self._settings, TOPICS)
            self._topics_checked = True
        await in_thread(self._generations.prune)
        served = await in_thread(self._generations.serving)
        if await in_thread(self._generations.offered):
            # Should it turn out to be of no use, what is served is folded on.
            await self._build("one that was built beside it has caught up", stop, may_begin=False)
            return
        reason = _why_another(served)
        if reason is None and served is not None:
            try:
                self._set("folding")
                await self._serving.run(served, stop)
                return
            except Unusable as error:
                reason = str(error)
                if error.wrong:
                    self._answers = False
                    await in_thread(self._generations.discard, served)
        await self._build(str(reason), stop)

    async def _build(self, reason: str, stop: asyncio.Event, *, may_begin: bool = True) -> None:
        """A new generation, which is then served; or, unless it `may_begin`, what another process has built."""
        self._answers = await in_thread(self._something_answers)
        self._set(f"building another generation: {reason}", stale=self._answers, building=True)
        if reason != self._told:
            log.warning("another generation of the state store is due", reason=reason, answers_meanwhile=self._answers)
            self._told = reason
        may_forget = self._settings.allow_forgetful_topics or not self._answers
        rebuild = Rebuild(
            self._settings,
            self._generations,
            self._clock,
            may_forget=may_forget,
            may_begin=may_begin,
            may_fill=not self._answers,
            progress=self._progress,
            restore=lambda follower: self._restoring.run(follower, stop),
        )
        try:
            with self._generations.rebuilding():
                path = await rebuild.run(stop)
                if path is None:
                    return
                await in_thread(self._generations.swap, path)
        except (Forgetful, NoRoom) as error:
            log.error(_REFUSED[type(error)], reason=f"{reason}; but {error}")
            await self._go_on_serving(f"{reason}; but {error}", stop)
            return
        self._answers = True
        self._told = ""
        log.info("a new generation of the state store is served", generation=path.name, profiles=rebuild.profiles)

    def _something_answers(self) -> bool:
        """Whether there is a generation that this version can read, whatever made it."""
        served = self._generations.serving()
        return served is not None and answers(served)

    async def _go_on_serving(self, reason: str, stop: asyncio.Event) -> None:
        """What there is, not folded on, until somebody decides, or for a while."""
        self._set(f"what is served is not folded on: {reason}", stale=True)
        served = await in_thread(self._generations.serving)
        until = time.monotonic() + REFUSED_FOR_S
        while not stop.is_set() and time.monotonic() < until:
            if served is None or await in_thread(self._serving.is_over, served):
                return
            await _pause(stop)

    async def _wait(self, reason: str, stop: asyncio.Event) -> None:
        said = f"waiting: {reason}"
        if self._doing != said:
            log.warning("the builder waits", reason=reason)
        self._set(said, stale=self._stale)
        await _pause(stop)

    def _set(self, doing: str, *, stale: bool = False, building: bool = False) -> None:
        self._doing = doing
        self._stale = stale
        STATE_STALE.set(stale)
        STATE_BUILDING.set(building)

    def _progress(self, folding: Folding) -> None:
        self._reading = True
        if folding is not self._folding:
            self._folding, self._folded = folding, 0
        if folding.folded > self._folded:
            self._folded = folding.folded
            self._backoff.reset()

    def _served(self, folding: Folding) -> None:
        self._answers = folding.caught_up
        self._progress(folding)


def _why_another(served: Path | None) -> str | None:
    """Why the one that is served is not the one to fold into; None when it is."""
    if served is None:
        return "there is none yet, or not any more"
    if version_of(served.name) != FOLD_VERSION:
        return f"{served.name} follows the rules of fold version {version_of(served.name)}, not {FOLD_VERSION}"
    return None


async def _pause(stop: asyncio.Event) -> None:
    with contextlib.suppress(TimeoutError):  # the usual end of a wait
        await asyncio.wait_for(stop.wait(), LOOK_EVERY_S)


def _tell(error: Exception) -> None:
    name = type(error).__name__
    if isinstance(error, KafkaError | ConnectionError | TimeoutError):
        log.warning("the connection to Kafka is made anew", error=name, reason=str(error))
    elif isinstance(error, lmdb.Error | OSError | Damaged):
        log.error("the state store can't be written", error=name, reason=str(error))
    else:  # a fault of ours; its text may quote an event
        where = traceback.format_tb(error.__traceback__)
        log.error("the builder starts anew from what it has committed", error=name, where=where)
