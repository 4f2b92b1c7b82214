"""Snapshots of the state store again and again: `ringlog state snapshot --every`."""

import asyncio
import random
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from cli.state_store import readable, store_of
from consumers.backoff import Backoff
from consumers.object_store import StorageAway
from consumers.snapshots.manifest import Snapshot
from consumers.snapshots.storage import SnapshotStorage
from consumers.snapshots.taking import newest, prune, take
from consumers.stopping import Stopped, unless
from runtime.clock import system_clock
from runtime.logs import logger
from runtime.metrics import SNAPSHOT_AT
from runtime.ops import Health, ops_app
from runtime.server import HttpServer
from runtime.settings import Settings

# A try may copy the whole store before it fails: soon at first, because a builder that has just begun has no store yet.
FIRST_PAUSE_S = 1.0
LONGEST_PAUSE_S = 300.0

# For an upload to notice a stop, and to be withdrawn; then storage that hangs is left alone.
STOP_GRACE_S = 5.0
OPS_GRACE_S = 0.5

# Several that share a place see the same snapshot grow old at the same moment. Each gives way for a time of its own, so
# that, as a rule, one of them takes the next and the others find it: within a tenth of the interval, and ten minutes
# are much longer than most copies and their uploads.
GIVE_WAY_SHARE = 0.1
LONGEST_GIVE_WAY_S = 600.0

FAILED_IN_A_ROW = 3  # then somebody has to look, and readiness says so

# Told the snapshot that was taken, and the names of those that were removed for it.
Taken = Callable[[Snapshot, list[str]], None]


class SnapshotSchedule:
    """Takes one when the newest of these topics is older than so long, whoever took it: a restart takes none too many.

    What keeps it from that is told, and tried again. Raises `SettingsError` for a wrong URL, when it is made.
    """

    def __init__(self, settings: Settings, every_s: float, tell: Taken) -> None:
        self._settings = settings
        self._storage = SnapshotStorage.open(settings)
        self._every_s = every_s
        self._tell = tell
        self._failed = 0
        self._said: dict[str, Any] = {"newest": None, "last": "none yet"}
        self._log = logger("cli.snapshots")

    async def run(self, stop: asyncio.Event) -> None:
        """Until `stop`, which also breaks off a snapshot: then there is no new one."""
        settings = self._settings
        ops = HttpServer(
            ops_app(self._health), settings.host, settings.ops_port, name="ops", port_setting="RINGLOG_OPS_PORT"
        )
        await ops.start()
        self._log.info("started", every_s=self._every_s, ops_port=ops.port)
        try:
            with suppress(Stopped):
                await self._go_on(stop)
        finally:
            await ops.stop(OPS_GRACE_S)
        self._log.info("stopped")

    async def _go_on(self, stop: asyncio.Event) -> None:
        backoff = Backoff(FIRST_PAUSE_S, min(LONGEST_PAUSE_S, self._every_s))
        while not stop.is_set():
            try:
                pause_s = await self._when_due(stop)
            except (StorageAway, OSError) as error:  # `NoStore` is one, and so is a disk that is full
                self._log.warning("there is no new snapshot; it is tried again", reason=str(error))
                await self._failing(error, backoff, stop)
                continue
            except Stopped:
                raise
            except Exception as error:
                # In a pod its end would count against the server beside it, which answers callers.
                self._log.exception("there is no new snapshot; it is tried again")
                await self._failing(error, backoff, stop)
                continue
            self._failed = 0
            self._said["last"] = "good"
            backoff.reset()
            await _pause(stop, pause_s)

    async def _failing(self, error: Exception, backoff: Backoff, stop: asyncio.Event) -> None:
        self._failed += 1
        self._said["last"] = f"failed: {error or type(error).__name__}"
        await backoff.wait(stop)

    async def _when_due(self, stop: asyncio.Event) -> float:
        """Takes one if it is time; in how many seconds it is time again. Raises `StorageAway`, `OSError`, `Stopped`."""
        found = await self._newest(stop)
        if found is not None and self._due_in_s(found) <= 0:
            await self._give_way(stop)
            found = await self._newest(stop)
        if found is None or self._due_in_s(found) <= 0:
            found = await self._take(stop)
        self._said["newest"] = found.name
        SNAPSHOT_AT.set(found.taken_at_ms / 1000)
        return self._due_in_s(found)

    async def _newest(self, stop: asyncio.Event) -> Snapshot | None:
        path = store_of(self._settings)
        with readable(path):
            found = await unless(stop, newest(self._storage, path))
        if stop.is_set():
            raise Stopped
        return found

    async def _give_way(self, stop: asyncio.Event) -> None:
        longest_s = min(LONGEST_GIVE_WAY_S, self._every_s * GIVE_WAY_SHARE)
        await _pause(stop, random.uniform(0, longest_s))  # noqa: S311 - spreads load, guards nothing

    async def _take(self, stop: asyncio.Event) -> Snapshot:
        settings, path = self._settings, store_of(self._settings)
        with readable(path):
            taking = take(self._storage, path, settings.state_room, stop, lambda *_: None, system_clock)
            done = await unless(stop, taking, STOP_GRACE_S)
        if done is None:
            raise Stopped
        removed: list[str] = []
        try:
            removed = await unless(stop, prune(self._storage, done, settings.snapshots_keep, system_clock)) or []
        except StorageAway as error:
            self._log.warning("old snapshots were not removed; they go with the next one", reason=str(error))
        self._log.info(
            "a snapshot was taken",
            snapshot=done.name,
            profiles=done.profiles,
            bytes=done.bytes,
            compressed_bytes=done.compressed_bytes,
            removed=len(removed),
        )
        self._tell(done, removed)
        return done

    def _due_in_s(self, snapshot: Snapshot) -> float:
        """Never more than a whole interval: a clock that was wrong must not end the snapshots."""
        left_s = snapshot.taken_at_ms / 1000 + self._every_s - system_clock() / 1_000_000
        return min(max(0.0, left_s), self._every_s)

    def _health(self) -> Health:
        return Health(self._failed < FAILED_IN_A_ROW, {**self._said, "failed_in_a_row": self._failed})


async def _pause(stop: asyncio.Event, for_s: float) -> None:
    """Shorter when `stop` is set."""
    with suppress(TimeoutError):  # the usual end of a wait
        await asyncio.wait_for(stop.wait(), for_s)
