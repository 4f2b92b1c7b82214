"""The spool as the event loop sees it: many events share a commit, and no disk can hold the loop up."""

import asyncio
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from traceback import format_tb
from typing import Any

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
from service.journal.backlog import Backlog, hash_of
from service.journal.batch import Shared
from service.journal.disk import COMMIT_DEADLINE_S, DISK_ERRORS, RETRY_S, USUAL_EVENT_BYTES, SpoolDisk
from service.journal.entry import Entry, NotDurable
from service.journal.spool import Spool, SpoolDamaged, SpoolFull, Waiting


class _Round:
    """What one commit does, and the future that everyone in it awaits."""

    def __init__(self) -> None:
        self.done = Shared()
        self.entries: list[Entry] = []
        self.refusals: list[tuple[int, str]] = []  # index of an entry -> why it is set aside at once
        self.size = 0


class Spooler:
    """The one way to the spool. Everything but `run` returns at once, or waits without the loop.

    Without a usable spool (the disk is full or broken, another process has it, `max_bytes` is 0) `append` raises, and
    `why_not` says what a person should know; it is tried again until it works.
    """

    def __init__(self, directory: Path, max_bytes: int, on_backlog: Callable[[], None]) -> None:
        """`on_backlog` is called when something waits in a place where nothing did."""
        self._on_backlog = on_backlog
        self._max_bytes = max_bytes
        self._log = logger("service.spool")
        self._disk = SpoolDisk(directory, max_bytes, self._opened)
        self._round: _Round | None = None
        self._committing: asyncio.Task[None] | None = None
        self._pending_events = 0
        self._pending_bytes = 0
        self._deletes: list[int] = []
        self._refuses: list[tuple[int, str]] = []
        self._current: _Round | None = None
        self.backlog = Backlog()
        self.refused = 0
        SPOOL_EVENTS.set_function(lambda: self.backlog.events)
        SPOOL_BYTES.set_function(lambda: self.backlog.bytes)
        SPOOL_REFUSED.set_function(lambda: self.refused)
        SPOOL_USABLE.set_function(lambda: self.is_usable)

    @property
    def is_known(self) -> bool:
        """Whether the backlog is what lies on the disk, or nobody can know what does."""
        return self._disk.is_known

    @property
    def is_usable(self) -> bool:
        return not self.why_not

    @property
    def why_not(self) -> str:
        """Empty while it takes events."""
        usual = min(USUAL_EVENT_BYTES, self._max_bytes // 10)
        return self._disk.why_not or ("full (RINGLOG_SPOOL_MAX_BYTES)" if self._is_full(usual, 1.0) else "")

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
        if self._disk.why_not and (
            self.is_known or self._disk.hangs
        ):  # while it is opened for the first time, it waits
            raise NotDurable(f"the spool is not usable: {self._disk.why_not}")
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
                return await self._disk.use(lambda spool: spool.read(seqs))
        except SpoolDamaged as error:
            if backlog is self.backlog:  # or it was opened anew, and these were the former one's numbers
                self._disk.lose(str(error))
            raise

    async def run(self, stop: asyncio.Event) -> None:
        """Opens it, and opens it anew when it was lost, until `stop`."""
        await self._disk.run(stop, self._retry)

    async def flushed(self) -> None:
        """When everything until now is committed, or has failed. What comes meanwhile is not waited for."""
        if rounds := [round_.done for round_ in (self._current, self._round) if round_ is not None]:
            await asyncio.wait(rounds)

    async def close(self) -> None:
        """Commits what waits, and lets go of the files."""
        if self._committing is not None:
            await asyncio.wait({self._committing}, timeout=COMMIT_DEADLINE_S)
        self._disk.unusable("the service stops", log=False)
        await self._disk.close()
        if self.backlog.events:
            self._log.warning("events stay in the spool until the service runs again", events=self.backlog.events)

    def _opened(self, backlog: Backlog, refused: int) -> None:
        self.refused = refused
        backlog.place(self.backlog.partitions)
        self.backlog = backlog
        self._deletes, self._refuses = [], []
        if backlog.events:
            self._log.info("the spool has events for Kafka", events=backlog.events, bytes=backlog.bytes)
        self._on_backlog()

    def _retry(self) -> None:
        """What could not be deleted or set aside waits for no event to come."""
        if self._deletes or self._refuses:
            self._open_round()

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
            self._disk.usable()
        aside = {index for index, _ in round_.refusals}
        self.refused += len(aside)
        places = len(self.backlog.places)
        self.backlog.add(one for index, one in enumerate(waiting) if index not in aside)
        if len(self.backlog.places) > places:
            self._on_backlog()
        self._settle(round_, None)

    async def _hang(self, committing: "asyncio.Task[Any]", round_: _Round) -> None:
        """It may succeed yet. Until then the spool takes nothing, and nobody waits for it."""
        self._disk.hangs = True
        self._disk.unusable(f"the disk has not answered for {COMMIT_DEADLINE_S:g} s")
        error = NotDurable("the spool did not answer in time")
        self._settle(round_, error)
        while not committing.done():
            gathered, self._round = self._round, None
            if gathered is not None:
                self._settle(gathered, error)
            await asyncio.wait({committing}, timeout=RETRY_S)
        self._disk.hangs = False

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
            return await self._disk.use(write)
        except SpoolDamaged as error:
            SPOOL_ERRORS.labels(type(error).__name__).inc()
            self._disk.lose(str(error))
            return await self._disk.use(write)  # when it has been opened anew

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
            self._disk.lose(str(error))
        elif not self._disk.is_open:
            pass  # why it is not open has been said
        elif isinstance(error, DISK_ERRORS):
            self._disk.unusable(f"the disk refuses it: {error}")
        else:  # a fault of ours; its text may quote an event
            self._log.error("a commit failed", error=type(error).__name__, where=format_tb(error.__traceback__))
        self._settle(round_, NotDurable(f"the spool could not be written: {error}"))
