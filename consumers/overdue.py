"""The completeness ledger: calls that were announced, and of which no end has come."""

import asyncio
from collections.abc import Sequence

import msgspec
from sqlalchemy import ColumnElement, Connection, Engine, func, select

from consumers.database import read_only
from consumers.tables import call_log
from consumers.watching import watch
from runtime.clock import Clock, system_clock
from runtime.metrics import CALLS_OVERDUE

EVERY_S = 30.0  # nobody acts on it sooner, and on a large table the count is not free


class OverdueCall(msgspec.Struct, frozen=True):
    """`prefetched_at` in microseconds since the epoch."""

    session_id: str
    agent_id: str | None
    prefetched_at: int


def overdue_before(now_us: int, longest_call_s: float) -> int:
    """A call that was announced before this time, in microseconds, has ended by now."""
    return now_us - round(longest_call_s * 1_000_000)


def overdue(tx: Connection, before_us: int, limit: int, after: tuple[int, str] = (0, "")) -> Sequence[OverdueCall]:
    """The longest overdue first. `after` is time and session of the last one of the page before."""
    log = call_log.c
    further = (log.prefetched_at > after[0]) | ((log.prefetched_at == after[0]) & (log.session_id > after[1]))
    found = (
        select(log.session_id, log.agent_id, log.prefetched_at)
        .where(is_overdue(before_us), further)
        .order_by(log.prefetched_at, log.session_id)
        .limit(limit)
    )
    return [OverdueCall(*row) for row in tx.execute(found)]


def count_overdue(tx: Connection, before_us: int) -> int:
    return int(tx.execute(select(func.count()).select_from(call_log).where(is_overdue(before_us))).scalar_one())


def is_overdue(before_us: int) -> ColumnElement[bool]:
    """Of a row of `call_log`."""
    return call_log.c.ended_at.is_(None) & (call_log.c.prefetched_at < before_us)


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
