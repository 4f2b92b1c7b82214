"""One pass over what may be missing: the overdue calls one by one, and the provider's list of a time."""

import asyncio
from collections.abc import Callable
from typing import Concatenate, ParamSpec, TypeVar

import msgspec
from sqlalchemy import Connection, Engine

from cli.reconciler import ledger
from cli.reconciler.millis_api import MillisApi
from cli.reconciler.recovered_call import RecoveredCall, Unreadable, recovered_call
from consumers.database import clean_text
from consumers.overdue import overdue_before
from runtime.clock import Clock
from runtime.logs import logger
from runtime.metrics import RECONCILED
from runtime.threads import in_thread
from service.ended_call import EndedCalls, Unacceptable
from service.journal import Journal

OVERDUE_AT_ONCE = 100  # between two notes in the database: what a crash makes us ask for again

T = TypeVar("T")
P = ParamSpec("P")


class Tally(msgspec.Struct):
    """How many calls. `known`: of the provider's list, those whose end had arrived. `unknown` to the provider."""

    recovered: int = 0
    known: int = 0
    unknown: int = 0
    unfinished: int = 0
    unreadable: int = 0


class Reconciliation:
    """Publishes what is missing through the same path as a webhook's body, marked as recovered.

    Doing it again changes nothing: the same answer is the same event. Raises what `MillisApi` and the database raise,
    and `NotDurable`; what was published by then stays.
    """

    def __init__(
        self,
        api: MillisApi,
        engine: Engine,
        journal: Journal,
        ended_calls: EndedCalls,
        longest_call_s: float,
        clock: Clock,
    ) -> None:
        self._api = api
        self._engine = engine
        self._journal = journal
        self._ended_calls = ended_calls
        self._longest_call_s = longest_call_s
        self._clock = clock
        self._log = logger("cli.reconcile")

    async def overdue(self, tally: Tally, step: Callable[[], None], stop: asyncio.Event) -> None:
        """Asks for each call that was announced and has no end."""
        before_us, after = overdue_before(self._clock(), self._longest_call_s), (0, "")
        while not stop.is_set():
            due = await self._in_database(ledger.to_ask, before_us, self._clock(), OVERDUE_AT_ONCE, after)
            if not due:
                return
            said: dict[str, str] = {}
            try:
                for after in due:
                    if stop.is_set():
                        break
                    said[after[1]] = await self._ask(after[1], tally)
                    step()
            finally:  # also when the API ends it
                await self._in_database(ledger.note, said, self._clock())

    async def window(self, since_us: int, until_us: int, tally: Tally, step: Callable[[], None]) -> None:
        """Goes through the provider's list of calls: neither of their webhooks need have arrived."""
        async for page in self._api.calls(since_us, until_us):
            calls = [call for told in page if (call := self._read(told, None, tally)) is not None]
            known = await self._in_database(ledger.ended, {clean_text(call.session_id) for call in calls})
            for call in calls:
                if clean_text(call.session_id) in known:
                    tally.known += 1
                else:
                    await self._recover(call, tally)
                step()

    async def _ask(self, session_id: str, tally: Tally) -> str:
        """What was said of it."""
        told = await self._api.call(session_id)
        if told is None:
            return self._count("unknown", tally)
        call = self._read(told, session_id, tally)
        return "unreadable" if call is None else await self._recover(call, tally)

    def _read(self, told: bytes, session_id: str | None, tally: Tally) -> RecoveredCall | None:
        try:
            return recovered_call(told, session_id)
        except Unreadable as error:
            self._log.warning(
                "what the provider says of a call can't be read", session_id=session_id, reason=str(error)
            )
            self._count("unreadable", tally)
            return None

    async def _recover(self, call: RecoveredCall, tally: Tally) -> str:
        if not call.has_ended:
            return self._count("unfinished", tally)
        try:
            event = self._ended_calls.event(call.body, recovered=True)
        except Unacceptable as error:
            self._log.warning("a call can't be recovered", session_id=call.session_id, reason=str(error))
            return self._count("unreadable", tally)
        await self._journal.publish(event.entry)
        self._log.info("a call was recovered", session_id=event.session_id, event_id=event.id)
        return self._count("recovered", tally)

    def _count(self, word: str, tally: Tally) -> str:
        setattr(tally, word, getattr(tally, word) + 1)
        RECONCILED.labels(word).inc()
        return word

    async def _in_database(self, work: Callable[Concatenate[Connection, P], T], *args: P.args, **named: P.kwargs) -> T:
        def transaction() -> T:
            with self._engine.begin() as tx:
                return work(tx, *args, **named)

        return await in_thread(transaction)
