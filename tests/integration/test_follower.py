"""The follower reads the next batch while the last one is folded, and says only where it has given everything."""

import asyncio
import time

import pytest

from consumers import follower
from consumers.follower import Follower
from runtime.kafka import make_producer, start_within, stop_within
from runtime.settings import Settings
from schemas.topics import CALLS_ENDED
from tests.ended_calls import ended

EVENTS = 30
AT_ONCE = 7


async def publish(settings: Settings) -> None:
    producer = make_producer(settings)
    await start_within(producer)
    for number in range(EVENTS):
        record = ended(f"s{number}", number, {})
        topic = CALLS_ENDED.named(settings.topic_prefix)
        await producer.send_and_wait(topic, record.value, key=record.key, partition=number % 2)
    await stop_within(producer)


async def test_where_it_is_does_not_count_what_was_only_read_ahead(
    settings: Settings, topics: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(follower, "BATCH_RECORDS", AT_ONCE)
    await publish(settings)
    reader = Follower(settings, [CALLS_ENDED], time.monotonic)
    await reader.open()
    try:
        reader.start({})
        given: dict[tuple[str, int], int] = {(CALLS_ENDED.name, number): 0 for number in (0, 1)}
        while sum(given.values()) < EVENTS:
            for part in await reader.poll():
                assert part.messages[0].offset == given[part.topic, part.partition]
                given[part.topic, part.partition] = part.next_offset
            at, ends = await reader.measure()
            assert at == given  # the next batch has come by now: measuring waits for it
        assert at == ends
        assert await reader.poll() == []
    finally:
        await reader.close()


async def test_it_ends_while_it_reads_ahead(settings: Settings, topics: tuple[str, ...]) -> None:
    await publish(settings)
    reader = Follower(settings, [CALLS_ENDED], time.monotonic)
    await reader.open()
    reader.start({})
    while not await reader.poll():
        pass
    await reader.close()
    assert [task for task in asyncio.all_tasks() if "getmany" in repr(task)] == []
