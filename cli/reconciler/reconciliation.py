"""One pass over what may be missing: found in the provider's list, and in our own log; asked for one by one."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Concatenate, ParamSpec, TypeVar

import msgspec
from sqlalchemy import Connection, Engine

from cli.reconciler import ledger
from cli.reconciler.ledger import RECOVERED, START, Place
from cli.reconciler.millis_api import ApiUnavailable, CallRefused, MillisApi
from cli.reconciler.recovered_call import RecoveredCall, Unreadable, recovered_call
from consumers.database import clean_text, read_only
from consumers.overdue import overdue_before
from runtime.clock import Clock
from runtime.logs import logger
from runtime.metrics import RECONCILED
from runtime.threads import in_thread
from service.ended_call import EndedCalls, Unacceptable
from service.journal import Journal

# Between two notes in the database: what a crash makes us ask for again.
AT_ONCE = 100

# A call that has just ended is left alone: its webhook is under way.
SETTLE_S = 300.0

# One call that the API can't give is that call's trouble; so many in a row are the API's.
FAILURES_IN_A_ROW = 3

T = TypeVar("T")
P = ParamSpec("P")


class Tally(msgspec.Struct):
    """How many calls. `known`: of the provider's list, those whose end had arrived. `unknown` to the provider.

    `unpriced`: asked for their cost, which the provider has not told either. `failed`: it could not give them.
    """

    recovered: int = 0
    known: int = 0
    unknown: int = 0
    unfinished: int = 0
    unpriced: int = 0
    unreadable: int = 0
    failed: int = 0


class Reconciliation:
    """Publishes what is missing through the same path as a webhook's body, marked as recovered.

    The provider's list only says which calls there are; each that is missing is asked for by itself, and once. To do it
    again changes nothing. Raises what `MillisApi` and the database raise, and `NotDurable`; what was published by then
    stays. `step` is called after each call.
    """

    def __init__(
        self,
        api: MillisApi,
        engine: Engine,
        journal: Journal,
        ended_calls: EndedCalls,
        longest_call_s: float,
        clock: Clock,
        step: Callable[[], None] = lambda: None,
    ) -> None:
        self._api = api
        self._engine = engine
        self._journal = journal
        self._ended_calls = ended_calls
        self._longest_call_s = longest_call_s
        self._clock = clock
        self._step = step
        self._failures = 0
        self._asked: set[str] = set()
        self._log = logger("cli.reconcile")
        self.tally = Tally()

    async def run(self, since_us: int) -> None:
        """The whole pass: the list since then, what is overdue, and what has no price yet."""
        await self._window(since_us, self._clock() - round(SETTLE_S * 1_000_000))
        before_us = overdue_before(self._clock(), self._longest_call_s)
        await self._own(lambda tx, after: ledger.overdue(tx, before_us, self._clock(), AT_ONCE, after), priced=False)
        await self._own(lambda tx, after: ledger.unpriced(tx, self._clock(), AT_ONCE, after), priced=True)

    async def _window(self, since_us: int, until_us: int) -> None:
        """Of these calls neither webhook need have arrived."""
        if since_us >= until_us:
            return
        async for page in self._api.calls(since_us, until_us):
            calls = [call for told in page if (call := self._read(told, None)) is not None]
            known = await self._look(ledger.complete, {clean_text(call.session_id) for call in calls})
            missing = []
            for call in calls:
                if not call.has_ended:
                    self._count("unfinished")
                elif clean_text(call.session_id) in known:
                    self._count("known")
                else:
                    missing.append(call.session_id)
            await self._ask_for(missing, priced=False)
        await self._write(ledger.read_to, until_us)

    async def _own(self, find: Callable[[Connection, Place], Sequence[Place]], *, priced: bool) -> None:
        """Calls of our own log, page by page."""
        after = START
        while due := await self._look(find, after):
            await self._ask_for([session_id for _, session_id in due], priced=priced)
            after = due[-1]

    async def _ask_for(self, session_ids: Sequence[str], *, priced: bool) -> None:
        """`priced`: they have ended, and only a price is news."""
        said: dict[str, str] = {}
        try:
            for session_id in session_ids:
                if session_id not in self._asked:
                    self._asked.add(session_id)
                    said[clean_text(session_id)] = self._count(await self._ask(session_id, priced))
        finally:  # also when the API ends it
            if said:
                await self._write(ledger.note, said, self._clock())

    async def _ask(self, session_id: str, priced: bool) -> str:
        """What was said of it."""
        try:
            told = await self._api.call(session_id)
        except CallRefused as error:
            self._log.warning("the provider does not give a call", session_id=session_id, reason=str(error))
            return "failed"
        except ApiUnavailable as error:
            self._failures += 1
            if self._failures >= FAILURES_IN_A_ROW:
                raise
            self._log.warning("the provider could not give a call", session_id=session_id, reason=str(error))
            return "failed"
        self._failures = 0
        if told is None:
            return "unknown"
        call = self._read(told, session_id)
        if call is None:
            return "unreadable"
        if not call.has_ended:
            return "unfinished"
        return "unpriced" if priced and not call.is_priced else await self._recover(call)

    async def _recover(self, call: RecoveredCall) -> str:
        try:
            event = await asyncio.to_thread(self._ended_calls.event, call.body, recovered=True)
        except Unacceptable as error:
            self._log.warning("a call can't be recovered", session_id=call.session_id, reason=str(error))
            return "unreadable"
        await self._journal.publish(event.entry)
        self._log.info("a call was recovered", session_id=event.session_id, event_id=event.id)
        return RECOVERED

    def _read(self, told: bytes, session_id: str | None) -> RecoveredCall | None:
        """None for what is no call; in the list that is counted here, because nobody can be asked for it."""
        try:
            return recovered_call(told, session_id)
        except Unreadable as error:
            if session_id is None:
                self._count("unreadable")
            self._log.warning("what the provider says is no call", session_id=session_id, reason=str(error))
            return None

    def _count(self, word: str) -> str:
        setattr(self.tally, word, getattr(self.tally, word) + 1)
        RECONCILED.labels(word).inc()
        self._step()
        return word

    async def _look(self, work: Callable[Concatenate[Connection, P], T], *args: P.args, **named: P.kwargs) -> T:
        def reading() -> T:
            with read_only(self._engine).connect() as tx:
                return work(tx, *args, **named)

        return await in_thread(reading)

    async def _write(self, work: Callable[Concatenate[Connection, P], None], *args: P.args, **named: P.kwargs) -> None:
        def writing() -> None:
            with self._engine.begin() as tx:
                work(tx, *args, **named)

        await in_thread(writing)
