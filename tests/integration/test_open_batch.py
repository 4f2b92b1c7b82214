"""Batches that take records until the producer takes them."""

import asyncio
from collections import Counter

from runtime.settings import Settings
from runtime.topics import apply
from schemas.event import ENDED, headers_of
from schemas.topics import CALLS_ENDED
from service.journal import Entry, Journal
from tests.edge import metric, records_of

CALLERS = 64
CALLS = 40


async def test_every_event_is_in_the_topic_once_however_events_and_requests_interleave(settings: Settings) -> None:
    await apply(settings)
    journal, stop = Journal(settings, (CALLS_ENDED,)), asyncio.Event()
    running = asyncio.create_task(journal.run(stop))
    async with asyncio.timeout(20):
        while not journal.is_connected:  # noqa: ASYNC110 - the journal tells nobody
            await asyncio.sleep(0.01)
    rebuilds, spooled = metric("ringlog_producer_rebuilds_total"), metric("ringlog_spooled_total", topic="calls.ended")

    async def call(caller: int) -> None:
        key = b"caller-%d" % caller
        for number in range(CALLS):
            # So that events arrive at every step of a request: sent alone, they would only ever be between two.
            for _ in range((caller * 7 + number) % 11):
                await asyncio.sleep(0)
            await journal.publish(Entry(CALLS_ENDED, key, key, b"{}", headers_of(ENDED, f"{caller}/{number}", 1)))

    await asyncio.gather(*(call(caller) for caller in range(CALLERS)))
    # A record that joined too late would have put all that follow out of sequence.
    assert metric("ringlog_producer_rebuilds_total") == rebuilds
    assert metric("ringlog_spooled_total", topic="calls.ended") == spooled
    stop.set()
    await running

    found = Counter(record.header("ce_id") for record in await records_of(settings, CALLS_ENDED))
    assert found == Counter(f"{caller}/{number}" for caller in range(CALLERS) for number in range(CALLS))
