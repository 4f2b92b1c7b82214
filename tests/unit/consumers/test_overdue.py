"""The metric of overdue calls: it follows the database."""

import asyncio
from collections.abc import Callable

import pytest
from sqlalchemy import Engine

from consumers import overdue
from consumers.call_log import CallLog
from consumers.overdue import OverdueWatch
from runtime.metrics import REGISTRY
from tests.ended_calls import ended, prefetched, time_us

LONGEST_CALL_S = 60.0


def told() -> float | None:
    return REGISTRY.get_sample_value("ringlog_calls_overdue")


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - a metric tells nobody
            await asyncio.sleep(0.01)


async def test_a_call_is_counted_while_it_is_overdue_and_no_longer(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(overdue, "EVERY_S", 0.01)
    now = time_us(0)
    with engine.begin() as tx:
        CallLog().handle(tx, [prefetched("s", 1), prefetched("t", 2)])
    stop = asyncio.Event()
    watching = asyncio.create_task(OverdueWatch(engine, LONGEST_CALL_S, lambda: now).run(stop))
    try:
        await until(lambda: told() == 0)
        now = time_us(3) + round(LONGEST_CALL_S * 1_000_000)
        await until(lambda: told() == 2)
        with engine.begin() as tx:
            CallLog().handle(tx, [ended("s", 4, {"duration": 1})])
        await until(lambda: told() == 1)
    finally:
        stop.set()
        await watching
