"""What tests of the journal share: events, a journal that runs, and what has become of both."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from runtime.settings import Settings
from schemas.event import ENDED, headers_of
from schemas.topics import CALLS_ENDED, CALLS_PREFETCH, CALLS_REJECTED, Topic
from service.app import TOPICS
from service.journal import Entry, Journal
from tests.edge import metric, records_of

# A busy machine: what is promised in seconds is asked for in seconds.
SLACK_S = 2.0


def entry(name: str, *, caller: str = "caller", size: int = 2, topic: Topic = CALLS_ENDED) -> Entry:
    by = caller.encode()
    return Entry(topic, by, by if topic.name != CALLS_REJECTED.name else None, b"x" * size, headers_of(ENDED, name, 1))


@asynccontextmanager
async def journal_of(settings: Settings, *, connected: bool = True) -> AsyncIterator[Journal]:
    journal, stop = Journal(settings, TOPICS, relaxed=(CALLS_PREFETCH,)), asyncio.Event()
    task = asyncio.create_task(journal.run(stop))
    if connected:
        await until(lambda: journal.is_connected and journal._spooler.is_known)
    try:
        yield journal
        assert metric("ringlog_events_waiting") == 0
    finally:
        stop.set()
        await task


async def until(holds: Callable[[], bool], within_s: float = 20.0) -> None:
    async with asyncio.timeout(within_s):
        while not holds():  # noqa: ASYNC110 - a journal tells nobody
            await asyncio.sleep(0.01)


def is_drained() -> bool:
    """And no partition is open any more: what comes now goes to Kafka."""
    return not metric("ringlog_spool_events") and not metric("ringlog_lanes_open")


async def ids_in(settings: Settings, topic: Topic = CALLS_ENDED) -> list[str]:
    """In the order of their first appearance, a partition after the other."""
    return list(dict.fromkeys(str(record.header("ce_id")) for record in await records_of(settings, topic)))


def silent(journal: Journal, _settings: Settings) -> None:
    """It takes everything, and sends nothing any more."""
    assert journal._producer is not None
    journal._producer._sender.sender_task.cancel()
