"""The workers that fetch what the table `recordings` says is due."""

import asyncio
import contextlib
import traceback
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, TypeVar

from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from consumers.object_store import StorageAway
from consumers.outage import is_unavailable
from consumers.recordings import book
from consumers.recordings.backoff import MAX_ATTEMPTS, STORAGE_AWAY_DELAY_S, delay_s
from consumers.recordings.failure import FetchFailed
from consumers.recordings.fetcher import Fetcher
from consumers.recordings.guard import Guard, Refused
from consumers.recordings.storage import Storage, StoredSound
from consumers.recordings.work_table import LEASE_S, Job, WorkTable
from runtime.clock import Clock
from runtime.logs import logger
from runtime.metrics import RECORDING_BYTES, RECORDINGS
from runtime.settings import Settings
from runtime.threads import in_thread

# Between looks at a table with nothing due: two small reads a second, and a recording waits no longer for its row.
POLL_S = 0.5

# While the database is away. It says so itself within `CONNECT_TIMEOUT_S`.
DATABASE_AWAY_S = 2.0

# However fast the server, an attempt ends. The largest recording accepted (2 GiB) then needs 600 kB/s.
DOWNLOAD_DEADLINE_S = 3600.0

# What downloads still may take when the process is told to stop; the rest begin anew, and the object appears then.
STOP_GRACE_S = 3.0

# Short transactions: two at a time keep 50 workers busy, and leave the pool's other connections to the runner.
DATABASE_CALLS = 2

R = TypeVar("R")

_Outcome = Callable[[], Awaitable[None]]


class Downloader:
    """Claims rows, fetches their sound into the object storage and writes what came of it.

    Dying at any point costs nothing but time: the lease lapses, and an object that is there already is not fetched
    again. Raises `SettingsError` for a recordings URL that can't be used.
    """

    def __init__(self, settings: Settings, engine: Engine, clock: Clock | None = None) -> None:
        self._workers = settings.recording_workers
        self._max_bytes = settings.recording_max_bytes
        self._min_rate = settings.recording_min_bytes_per_s
        self._guard = Guard(settings.recording_hosts, settings.recording_private_hosts)
        self._storage = Storage.open(settings)
        self._table = WorkTable(engine, clock)
        self._database = asyncio.Semaphore(DATABASE_CALLS)
        self._log = logger("consumers.recordings")

    async def run(self, stop: asyncio.Event) -> None:
        """Until `stop`. Waits for a database or storage that can't be used; raises only what is a fault of ours."""
        async with Fetcher(self._guard, self._max_bytes, self._min_rate) as self._fetcher:
            await self._work_until(stop)

    async def _work_until(self, stop: asyncio.Event) -> None:
        running: set[asyncio.Task[None]] = set()
        stopping = asyncio.create_task(stop.wait())
        try:
            while not stop.is_set():
                wait_s = await self._start_due(running)
                await asyncio.wait({stopping, *running}, timeout=wait_s, return_when=asyncio.FIRST_COMPLETED)
                for task in [task for task in running if task.done()]:
                    running.remove(task)
                    task.result()  # raises what was our own fault
            if running:
                await asyncio.wait(running, timeout=STOP_GRACE_S)
        finally:
            await _cancelled({stopping, *running})

    async def _start_due(self, running: set[asyncio.Task[None]]) -> float | None:
        """Gives every free worker a row that is due. Returns how long to wait before looking again, in seconds."""
        free = self._workers - len(running)
        if not free:
            return None  # a worker that becomes free wakes us
        try:
            jobs = await self._in_thread(self._table.claim, free)
        except SQLAlchemyError as error:
            # Whatever it is, to end would end the books of the calls too, and to begin again would mend nothing.
            say = self._log.warning if is_unavailable(error) else self._log.error
            say("the recordings' table can't be read, waiting", error=type(error).__name__)
            return DATABASE_AWAY_S
        running |= {asyncio.create_task(self._work(job)) for job in jobs}
        return POLL_S

    async def _work(self, job: Job) -> None:
        """One attempt, and what came of it written down."""
        try:
            write_down = await self._attempt(job)
        except asyncio.CancelledError:
            with contextlib.suppress(SQLAlchemyError):  # on the way out; the lease lapses by itself
                await asyncio.shield(self._in_thread(self._table.release, job))
            raise
        try:
            await write_down()
        except Exception as error:
            # The lease lapses, and whoever has the row next finds the object. One row must not end all the others.
            if is_unavailable(error):
                self._say(job).warning("an attempt could not be written down", error=type(error).__name__)
            else:
                where = traceback.format_tb(error.__traceback__)
                self._say(job).error("an attempt can't be written down", error=type(error).__name__, where=where)

    async def _attempt(self, job: Job) -> _Outcome:
        """Returns what is to be written down. Keeps the lease while it lasts."""
        fetching = asyncio.create_task(self._sound(job))
        try:
            while not (await asyncio.wait({fetching}, timeout=LEASE_S / 4))[0]:
                if not await self._renewed(job):
                    return partial(self._lost, job)
            sound, found = fetching.result()
        except Refused as error:
            return partial(self._refused, job, str(error))
        except FetchFailed as error:
            return partial(self._failed, job, str(error))
        except StorageAway as error:
            return partial(self._storage_away, job, str(error))
        except Exception as error:
            # A fault of ours. It must not take the other recordings with it, nor this one for ever. Where it was and
            # what kind: its text, or that of its cause, may hold the URL, and so a signature.
            where = traceback.format_tb(error.__traceback__)
            self._say(job).error("an attempt failed unexpectedly", error=type(error).__name__, where=where)
            return partial(self._failed, job, f"unexpected: {type(error).__name__}")
        finally:
            await _cancelled({fetching})
        return partial(self._stored, job, sound, found)

    async def _sound(self, job: Job) -> tuple[StoredSound, bool]:
        """The sound in the object storage, and whether it lay there before."""
        if sound := await self._storage.find(job.stems):
            return sound, True
        try:
            async with asyncio.timeout(DOWNLOAD_DEADLINE_S), self._fetcher.open(job.url) as chunks:
                return await self._storage.put(job.stems[0], chunks), False
        except TimeoutError:
            raise FetchFailed(f"not complete within {DOWNLOAD_DEADLINE_S:g} s") from None

    async def _renewed(self, job: Job) -> bool:
        try:
            return await self._in_thread(self._table.renew, job)
        except SQLAlchemyError as error:
            self._say(job).warning("a lease could not be renewed", error=type(error).__name__)
            return True  # if another has it, he will be found when the outcome is written down

    async def _stored(self, job: Job, sound: StoredSound, found: bool) -> None:
        if not await self._in_thread(self._table.stored, job, sound):
            return await self._lost(job)
        RECORDINGS.labels("found" if found else "stored").inc()
        RECORDING_BYTES.inc(0 if found else sound.bytes)
        self._say(job).info("stored a recording", object=sound.object, bytes=sound.bytes, was_there=found)

    async def _failed(self, job: Job, error: str) -> None:
        attempts = job.attempts + 1
        if attempts >= MAX_ATTEMPTS:
            await self._in_thread(self._table.failed, job, error)
            RECORDINGS.labels("failed").inc()
            self._say(job).warning("gave up on a recording", attempts=attempts, error=error)
            return
        delay = delay_s(attempts)
        await self._in_thread(self._table.again, job, error, delay)
        RECORDINGS.labels("retry").inc()
        self._say(job).info("a recording is not there yet", attempts=attempts, error=error, again_in_s=round(delay))

    async def _refused(self, job: Job, reason: str) -> None:
        await self._in_thread(self._table.refused, job, reason)
        RECORDINGS.labels("refused").inc()
        self._say(job).warning("refused a recording", reason=reason)

    async def _storage_away(self, job: Job, error: str) -> None:
        await self._in_thread(self._table.postponed, job, error, STORAGE_AWAY_DELAY_S)
        RECORDINGS.labels("storage_away").inc()
        self._say(job).warning("the object storage can't be used, waiting", error=error)

    async def _lost(self, job: Job) -> None:
        RECORDINGS.labels("lost").inc()
        self._say(job).warning("another worker has taken over a recording")

    def _say(self, job: Job) -> Any:
        # The host alone: the rest of a URL may be a credential.
        return self._log.bind(session_id=job.session_id, event_id=job.event_id, host=book.host_of(job.url))

    async def _in_thread(self, call: Callable[..., R], *args: Any) -> R:
        async with self._database:
            return await in_thread(call, *args)


async def _cancelled(tasks: set[asyncio.Task[Any]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
