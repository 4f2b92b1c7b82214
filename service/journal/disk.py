"""The files of the spool: opened, probed when the disk has failed, and opened anew when they were lost."""

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import lmdb

from runtime.logs import logger
from runtime.metrics import SPOOL_ERRORS
from runtime.threads import in_thread
from service.journal.backlog import Backlog
from service.journal.spool import Spool, SpoolBusy, SpoolDamaged, SpoolFull

T = TypeVar("T")

# A disk that needs longer than this for a commit is as good as none: the caller must have an answer.
COMMIT_DEADLINE_S = 5.0

# A disk that failed is left alone for so long; a spool that another process has is tried again.
RETRY_S = 1.0

# A large spool takes seconds to be checked. What comes meanwhile waits so long, for the sake of the order; then Kafka
# takes it, if it is there.
OPEN_PATIENCE_S = 4.0

# With less room than this it is full: it would take an event now and then, and refuse the others.
USUAL_EVENT_BYTES = 64 * 1024

# What the disk may say. Programming errors are none of them.
DISK_ERRORS = (OSError, lmdb.Error, SpoolFull, SpoolDamaged)


class SpoolDisk:
    """Owns the open spool, and knows whether it can be used. One thread at a time has it.

    `why_not` says what a person should know, and is empty while it takes events. `hangs`: a commit has been given up,
    and what it came to is not known yet.
    """

    def __init__(self, directory: Path, max_bytes: int, opened: Callable[[Backlog, int], None]) -> None:
        """`opened` is told what waits in it, and how many events were refused, each time that it is opened."""
        self._directory = directory
        self._max_bytes = max_bytes
        self._opened = opened
        self._log = logger("service.spool")
        self._spool: Spool | None = None
        self._one_at_a_time = asyncio.Lock()
        self._tried = asyncio.Event()  # to open it, with whatever outcome
        self._lost = False  # it has to be opened anew
        self.hangs = False
        self.why_not = "it is being opened" if max_bytes else "there is none (RINGLOG_SPOOL_MAX_BYTES is 0)"

    @property
    def is_known(self) -> bool:
        """Whether what lies on the disk has been read, or nobody can know it."""
        return self._tried.is_set() or not self._max_bytes

    @property
    def is_open(self) -> bool:
        return self._spool is not None

    async def run(self, stop: asyncio.Event, look: Callable[[], None]) -> None:
        """Opens it, and opens it anew when it was lost, until `stop`. Calls `look` every second while it is open."""
        stopping = asyncio.create_task(stop.wait())
        try:
            while self._max_bytes and not stop.is_set():
                await self._first_done(stopping, self._open())
                while self._spool is not None and not self._lost and not stop.is_set():
                    await asyncio.wait({stopping}, timeout=RETRY_S)
                    if self.why_not and not self.hangs and not self._lost:
                        await self._first_done(stopping, self._probe())
                    look()
                if self._lost:
                    await self.close()
                elif self._spool is None:
                    await asyncio.wait({stopping}, timeout=RETRY_S)
        finally:
            stopping.cancel()

    async def use(self, work: Callable[[Spool], T]) -> T:
        """Runs `work` in a thread, when it is its turn. Raises what it raises, and `OSError` when nothing is open."""
        await self._tried.wait()

        async def alone() -> T:
            async with self._one_at_a_time:
                if self._spool is None:
                    raise OSError("the spool is not open")
                return await in_thread(work, self._spool)

        # One who no longer waits does not end what the thread does: until then nobody else may use the spool.
        return await asyncio.shield(alone())

    def lose(self, reason: str) -> None:
        """It is damaged. What comes now waits until it has been opened anew."""
        self.unusable(f"damaged: {reason}")
        self._lost = True
        self._tried.clear()

    def usable(self) -> None:
        if self.why_not and self._spool is not None and not self._lost:
            self._log.info("the spool takes events again")
            self.why_not = ""

    def unusable(self, reason: str, *, log: bool = True) -> None:
        """Until a commit succeeds; one without events is tried every now and then."""
        if log:
            self._log.error("the spool takes nothing", reason=reason)
        self.why_not = reason

    async def close(self) -> None:
        spool, self._spool = self._spool, None
        if spool is None:
            return

        async def alone() -> None:
            async with self._one_at_a_time:
                await in_thread(spool.close)

        with suppress(TimeoutError):  # a disk that hangs: it is closed when it answers
            await asyncio.wait_for(asyncio.shield(alone()), COMMIT_DEADLINE_S)

    async def _first_done(self, stopping: "asyncio.Task[Any]", work: Coroutine[Any, Any, None]) -> None:
        """A disk that hangs must not keep us from stopping."""
        doing = asyncio.create_task(work)
        await asyncio.wait({stopping, doing}, timeout=OPEN_PATIENCE_S, return_when=asyncio.FIRST_COMPLETED)
        self._tried.set()
        await asyncio.wait({stopping, doing}, return_when=asyncio.FIRST_COMPLETED)
        if not doing.done():
            doing.cancel()

    async def _open(self) -> None:
        self._lost = False
        try:
            spool, backlog, refused = await in_thread(self._read)
        except Exception as error:
            busy = isinstance(error, SpoolBusy)
            reason = str(error) if busy else f"{self._directory} can't be opened: {error or type(error).__name__}"
            self.unusable(reason, log=self.why_not != reason)
            return
        self._spool = spool
        self.why_not = ""
        self._opened(backlog, refused)

    def _read(self) -> tuple[Spool, Backlog, int]:
        spool = Spool(self._directory, self._max_bytes)
        if (aside := spool.set_aside) is not None:
            SPOOL_ERRORS.labels("damaged").inc()
            self._log.error(
                "the spool was damaged and is set aside; what could be read of it is in the new one",
                path=str(aside.path),
                reason=aside.reason,
                restored=aside.restored,
                facts_not_restored=aside.facts,
            )
        try:
            with suppress(SpoolFull):  # then it stays where it is, and what waits makes room
                spool.readmit()  # what Kafka refused in another life: somebody may have mended its topic
            backlog = Backlog()
            backlog.add(spool.waiting())
            return spool, backlog, sum(1 for _ in spool.refused())
        except BaseException:
            spool.close()  # or its lock would stay, and nobody could open it again
            raise

    async def _probe(self) -> None:
        """Perhaps nobody has an event for it, and readiness must tell the truth."""
        try:
            await self.use(lambda spool: spool.prove_room(USUAL_EVENT_BYTES))
        except SpoolDamaged as error:
            self.lose(str(error))
        except DISK_ERRORS as error:
            reason = f"the disk refuses it: {error}"
            self.unusable(reason, log=self.why_not != reason)
        else:
            self.usable()
