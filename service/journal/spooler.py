"""The spool as the event loop sees it: many events share a commit, and no disk can hold the loop up."""

import asyncio
import time
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from pathlib import Path
from traceback import format_tb
from typing import Any, TypeVar

import lmdb

from runtime.logs import logger
from runtime.metrics import (
    EVENTS_FAILED,
    SPOOL_BYTES,
    SPOOL_COMMIT_SECONDS,
    SPOOL_ERRORS,
    SPOOL_EVENTS,
    SPOOL_REFUSED,
    SPOOL_USABLE,
    SPOOLED,
)
from runtime.threads import in_thread
from service.journal.backlog import Backlog, hash_of
from service.journal.batch import Shared
from service.journal.entry import Entry, NotDurable
from service.journal.spool import Spool, SpoolBusy, SpoolDamaged, SpoolFull, Waiting

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


class _Round:
    """What one commit does, and the future that everyone in it awaits."""

    def __init__(self) -> None:
        self.done = Shared()
        self.entries: list[Entry] = []
        self.refusals: list[tuple[int, str]] = []  # index of an entry -> why it is set aside at once
        self.size = 0


class Spooler:
    """Owns the spool. Everything but `run` returns at once, or waits without the loop.

    Without a usable spool (the disk is full or broken, another process has it, `max_bytes` is 0) `append` raises, and
    `why_not` says what a person should know; it is tried again until it works.
    """

    def __init__(self, directory: Path, max_bytes: int, on_backlog: Callable[[], None]) -> None:
        """`on_backlog` is called when something waits in a place where nothing did."""
        self._directory = directory
        self._on_backlog = on_backlog
        self._max_bytes = max_bytes
        self._log = logger("service.spool")
        self._spool: Spool | None = None
        self._one_at_a_time = asyncio.Lock()
        self._round: _Round | None = None
        self._committing: asyncio.Task[None] | None = None
        self._pending_events = 0
        self._pending_bytes = 0
        self._deletes: list[int] = []
        self._refuses: list[tuple[int, str]] = []
        self._why_not = "it is being opened" if max_bytes else "there is none (RINGLOG_SPOOL_MAX_BYTES is 0)"
        self._lost = False  # it has to be opened anew
        self._hangs = False
        self._current: _Round | None = None
        self._tried = asyncio.Event()  # to open it, with whatever outcome
        self.backlog = Backlog()
        self.refused = 0
        SPOOL_EVENTS.set_function(lambda: self.backlog.events)
        SPOOL_BYTES.set_function(lambda: self.backlog.bytes)
        SPOOL_REFUSED.set_function(lambda: self.refused)
        SPOOL_USABLE.set_function(lambda: self.is_usable)

    @property
    def is_known(self) -> bool:
        """Whether the backlog is what lies on the disk, or nobody can know what does."""
        return self._tried.is_set() or not self._max_bytes

    @property
    def is_usable(self) -> bool:
        return not self.why_not

    @property
    def why_not(self) -> str:
        """Empty while it takes events."""
        usual = min(USUAL_EVENT_BYTES, self._max_bytes // 10)
        return self._why_not or ("full (RINGLOG_SPOOL_MAX_BYTES)" if self._is_full(usual, 1.0) else "")

    @property
    def waiting(self) -> tuple[int, int]:
        """Events and bytes that wait for a commit."""
        return self._pending_events, self._pending_bytes

    def append(self, entries: Sequence[Entry], share: float = 1.0) -> "asyncio.Future[None]":
        """The future, shared with others, is done when the entries are on the disk; its error is `NotDurable`.

        `share` of the room is the most that may be used afterwards. Raises `NotDurable` when there is no room, or no
        usable spool.
        """
        size = sum(entry.size for entry in entries)
        if self._why_not and (self.is_known or self._hangs):  # while it is opened for the first time, it waits
            raise NotDurable(f"the spool is not usable: {self._why_not}")
        if self._is_full(size, share):
            raise NotDurable("the spool is full")
        round_ = self._open_round()
        round_.entries.extend(entries)
        round_.size += size
        self._pending_events += len(entries)
        self._pending_bytes += size
        return round_.done

    def set_aside(self, entry: Entry, reason: str) -> "asyncio.Future[None]":
        """Keeps an entry that Kafka would not take."""
        done = self.append([entry])
        assert self._round is not None  # noqa: S101 - append has seen to it
        self._round.refusals.append((len(self._round.entries) - 1, reason))
        return done

    def delete(self, backlog: Backlog, seqs: Sequence[int]) -> None:
        """They are in Kafka. Deleted with the next commit; `flushed` says when."""
        if backlog is self.backlog:
            self._deletes.extend(seqs)
            self._open_round()

    def refuse(self, backlog: Backlog, seq: int, reason: str) -> None:
        """Kafka goes on refusing it: it moves to the spool's own corner."""
        if backlog is self.backlog:
            self._refuses.append((seq, reason))
            self.refused += 1
            self._open_round()

    async def read(self, seqs: Sequence[int]) -> list[Entry]:
        """Raises `SpoolDamaged` and what the disk says, or `TimeoutError` when it says nothing."""
        backlog = self.backlog
        try:
            async with asyncio.timeout(COMMIT_DEADLINE_S):
                return await self._blocking(lambda spool: spool.read(seqs))
        except SpoolDamaged as error:
            if backlog is self.backlog:  # or it was opened anew, and these were the former one's numbers
                self._lose(str(error))
            raise

    async def flushed(self) -> None:
        """When everything until now is committed, or has failed. What comes meanwhile is not waited for."""
        if rounds := [round_.done for round_ in (self._current, self._round) if round_ is not None]:
            await asyncio.wait(rounds)

    async def run(self, stop: asyncio.Event) -> None:
        """Opens it, and opens it anew when it was lost, until `stop`."""
        stopping = asyncio.create_task(stop.wait())
        try:
            while self._max_bytes and not stop.is_set():
                await self._first_done(stopping, self._open())
                while self._spool is not None and not self._lost and not stop.is_set():
                    await asyncio.wait({stopping}, timeout=RETRY_S)
                    if self._why_not and not self._hangs and not self._lost:
                        await self._first_done(stopping, self._probe())
                    if self._deletes or self._refuses:
                        self._open_round()
                if self._lost:
                    await self._close()
                elif self._spool is None:
                    await asyncio.wait({stopping}, timeout=RETRY_S)
        finally:
            stopping.cancel()

    async def close(self) -> None:
        """Commits what waits, and lets go of the files."""
        if self._committing is not None:
            await asyncio.wait({self._committing}, timeout=COMMIT_DEADLINE_S)
        self._unusable("the service stops", log=False)
        await self._close()
        if self.backlog.events:
            self._log.warning("events stay in the spool until the service runs again", events=self.backlog.events)

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
            spool, backlog, refused = await in_thread(self._opened)
        except Exception as error:
            busy = isinstance(error, SpoolBusy)
            reason = str(error) if busy else f"{self._directory} can't be opened: {error or type(error).__name__}"
            self._unusable(reason, log=self._why_not != reason)
            return
        self._spool = spool
        self.refused = refused
        backlog.place(self.backlog.partitions)
        self.backlog = backlog
        self._deletes, self._refuses = [], []
        self._why_not = ""
        if backlog.events:
            self._log.info("the spool has events for Kafka", events=backlog.events, bytes=backlog.bytes)
        self._on_backlog()

    async def _probe(self) -> None:
        """Perhaps nobody has an event for it, and readiness must tell the truth."""
        try:
            await self._blocking(lambda spool: spool.prove_room(USUAL_EVENT_BYTES))
        except SpoolDamaged as error:
            self._lose(str(error))
        except DISK_ERRORS as error:
            reason = f"the disk refuses it: {error}"
            self._unusable(reason, log=self._why_not != reason)
        else:
            self._usable()

    def _opened(self) -> tuple[Spool, Backlog, int]:
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

    async def _close(self) -> None:
        spool, self._spool = self._spool, None
        if spool is None:
            return

        async def alone() -> None:
            async with self._one_at_a_time:
                await in_thread(spool.close)

        with suppress(TimeoutError):  # a disk that hangs: it is closed when it answers
            await asyncio.wait_for(asyncio.shield(alone()), COMMIT_DEADLINE_S)

    def _is_full(self, size: int, share: float) -> bool:
        return self.backlog.bytes + self._pending_bytes + size > self._max_bytes * share

    def _open_round(self) -> _Round:
        if self._round is None:
            self._round = _Round()
        if self._committing is None:
            self._committing = asyncio.create_task(self._commit_all(), name="spool")
        return self._round

    async def _commit_all(self) -> None:
        try:
            while (round_ := self._round) is not None:
                self._round, self._current = None, round_
                await self._commit(round_)
        finally:
            self._committing = self._current = None

    async def _commit(self, round_: _Round) -> None:
        backlog = self.backlog
        deletes, self._deletes = self._deletes, []
        refuses, self._refuses = self._refuses, []
        committing = asyncio.create_task(self._written(round_, backlog, deletes, refuses))
        started = time.perf_counter()
        await asyncio.wait({committing}, timeout=COMMIT_DEADLINE_S)
        if not committing.done():
            await self._hang(committing, round_)
        try:
            waiting = await committing
        except Exception as error:
            self._failed(round_, error)
            if backlog is self.backlog:
                self._deletes = [*deletes, *self._deletes]
                self._refuses = [*refuses, *self._refuses]
            if isinstance(error, SpoolFull) and round_.entries and (self._deletes or self._refuses):
                # What makes room must not fail with what needs room.
                await self._commit(_Round())
            return
        SPOOL_COMMIT_SECONDS.observe(time.perf_counter() - started)
        if waiting:
            self._usable()
        aside = {index for index, _ in round_.refusals}
        self.refused += len(aside)
        places = len(self.backlog.places)
        self.backlog.add(one for index, one in enumerate(waiting) if index not in aside)
        if len(self.backlog.places) > places:
            self._on_backlog()
        self._settle(round_, None)

    async def _hang(self, committing: "asyncio.Task[Any]", round_: _Round) -> None:
        """It may succeed yet. Until then the spool takes nothing, and nobody waits for it."""
        self._hangs = True
        self._unusable(f"the disk has not answered for {COMMIT_DEADLINE_S:g} s")
        error = NotDurable("the spool did not answer in time")
        self._settle(round_, error)
        while not committing.done():
            gathered, self._round = self._round, None
            if gathered is not None:
                self._settle(gathered, error)
            await asyncio.wait({committing}, timeout=RETRY_S)
        self._hangs = False

    async def _written(
        self, round_: _Round, backlog: Backlog, deletes: Sequence[int], refuses: Sequence[tuple[int, str]]
    ) -> list[Waiting]:
        def write(spool: Spool) -> list[Waiting]:
            put = list(enumerate(round_.entries, spool.next_seq))
            aside = [(put[index][0], reason) for index, reason in round_.refusals]
            if backlog is self.backlog:
                spool.commit(put, deletes, [*refuses, *aside])
            else:  # it was opened anew meanwhile
                spool.commit(put, refuse=aside)
            return [Waiting(seq, entry.topic.name, hash_of(entry.partition_by), entry.size) for seq, entry in put]

        try:
            return await self._blocking(write)
        except SpoolDamaged as error:
            SPOOL_ERRORS.labels(type(error).__name__).inc()
            self._lose(str(error))
            return await self._blocking(write)  # when it has been opened anew

    async def _blocking(self, work: Callable[[Spool], T]) -> T:
        await self._tried.wait()

        async def alone() -> T:
            async with self._one_at_a_time:
                if self._spool is None:
                    raise OSError("the spool is not open")
                return await in_thread(work, self._spool)

        # One who no longer waits does not end what the thread does: until then nobody else may use the spool.
        return await asyncio.shield(alone())

    def _settle(self, round_: _Round, error: NotDurable | None) -> None:
        if round_.done.done():
            return
        self._pending_events -= len(round_.entries)
        self._pending_bytes -= round_.size
        for entry in round_.entries:
            (SPOOLED if error is None else EVENTS_FAILED).labels(entry.topic.name).inc()
        if error is None:
            round_.done.set_result(None)
        else:
            round_.done.set_exception(error)

    def _failed(self, round_: _Round, error: Exception) -> None:
        SPOOL_ERRORS.labels(type(error).__name__).inc()
        if isinstance(error, SpoolDamaged):
            self._lose(str(error))
        elif self._spool is None:
            pass  # why it is not open has been said
        elif isinstance(error, DISK_ERRORS):
            self._unusable(f"the disk refuses it: {error}")
        else:  # a fault of ours; its text may quote an event
            self._log.error("a commit failed", error=type(error).__name__, where=format_tb(error.__traceback__))
        self._settle(round_, NotDurable(f"the spool could not be written: {error}"))

    def _lose(self, reason: str) -> None:
        self._unusable(f"damaged: {reason}")
        self._lost = True
        self._tried.clear()  # what comes now waits until it has been opened anew

    def _usable(self) -> None:
        if self._why_not and self._spool is not None and not self._lost:
            self._log.info("the spool takes events again")
            self._why_not = ""

    def _unusable(self, reason: str, *, log: bool = True) -> None:
        """Until a commit succeeds; one without events is tried every now and then."""
        if log:
            self._log.error("the spool takes nothing", reason=reason)
        self._why_not = reason
