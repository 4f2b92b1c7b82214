"""Calls that were announced, and of which no end has come: how many there are."""

import asyncio

from sqlalchemy import ColumnElement, Connection, Engine, func, select

from consumers.database import read_only
from consumers.tables import call_log, reconciliations
from consumers.watching import watch
from runtime.clock import Clock, system_clock
from runtime.metrics import CALLS_OVERDUE

EVERY_S = 30.0  # nobody acts on it sooner, and on a large table the count is not free

# So often the provider is asked for a call. What it does not know by then it will not know: the call is given up.
MAX_ASKED = 12


def overdue_before(now_us: int, longest_call_s: float) -> int:
    """A call that was announced before this time, in microseconds, has ended by now."""
    return now_us - round(longest_call_s * 1_000_000)


def is_overdue(before_us: int) -> ColumnElement[bool]:
    """Of a row of `call_log`."""
    return call_log.c.ended_at.is_(None) & (call_log.c.prefetched_at < before_us)


def count_overdue(tx: Connection, before_us: int) -> int:
    """Without those that were given up, so that what is left may be worth a look."""
    given_up = select(reconciliations.c.session_id).where(reconciliations.c.asked >= MAX_ASKED)
    left = is_overdue(before_us) & call_log.c.session_id.not_in(given_up)
    return int(tx.execute(select(func.count()).select_from(call_log).where(left)).scalar_one())


class OverdueWatch:
    """Keeps the metric of overdue calls."""

    def __init__(self, engine: Engine, longest_call_s: float, clock: Clock = system_clock) -> None:
        self._engine = read_only(engine)
        self._longest_call_s = longest_call_s
        self._clock = clock

    async def run(self, stop: asyncio.Event) -> None:
        await watch(stop, EVERY_S, self._look, CALLS_OVERDUE.set)

    def _look(self) -> int:
        with self._engine.connect() as tx:
            return count_overdue(tx, overdue_before(self._clock(), self._longest_call_s))
