"""Work that a stop interrupts."""

import asyncio
from collections.abc import Awaitable, Iterable
from typing import Any, TypeVar

T = TypeVar("T")

CANCEL_S = 1.0  # for what is cancelled to let go of what it was doing


class Stopped(Exception):
    """Somebody stopped it before its end."""


async def unless(stop: asyncio.Event, work: Awaitable[T], grace_s: float = 0.0) -> T | None:
    """The result; or None, the work cancelled, as soon as `stop` is set.

    Work that heeds `stop` itself, and ends more cleanly so, has `grace_s` for it.
    """
    doing = asyncio.ensure_future(work)
    stopping = asyncio.ensure_future(stop.wait())
    try:
        await asyncio.wait({doing, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if grace_s and not doing.done():
            await asyncio.wait({doing}, timeout=grace_s)
        return doing.result() if doing.done() else None
    finally:
        stopping.cancel()
        if not doing.done():
            doing.cancel()
            await asyncio.wait({doing}, timeout=CANCEL_S)


async def cancelled(tasks: Iterable[asyncio.Task[Any]]) -> None:
    """Cancels them. One that goes on nevertheless, as aiokafka sometimes does, is waited for no longer than that."""
    going_on = set(tasks)
    for task in going_on:
        task.cancel()
    if going_on:
        done, _ = await asyncio.wait(going_on, timeout=CANCEL_S)
        for task in done:
            task.cancelled() or task.exception()  # whatever it was, nobody waits for it any more
