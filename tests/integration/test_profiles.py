"""The profile builder against a real broker: what it builds is what the topics say, whatever happens to it."""

import asyncio
import contextlib
import os
import random
import shutil
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from pathlib import Path

import pytest
from aiokafka.admin import NewPartitions, RecordsToDelete
from aiokafka.structs import TopicPartition

from consumers.follower import Follower
from consumers.profiles import ProfileBuilder
from runtime.kafka import make_admin, make_consumer, make_producer, start_within, stop_within
from runtime.settings import Settings
from schemas.partition import partition_of
from schemas.topics import CALLERS_FACTS, CALLS_ENDED
from state.fold import TOPICS, Slice
from state.layout import DATA_FILE, store_path
from state.reader import ProfileReader
from state.store import ProfileStore
from tests.unit.state.events import Event, ended, fact, no_fact, prefetched

Dump = list[tuple[str, bytes, bytes]]

PARTITIONS = 2  # as the fixture `topics` makes them
DEADLINE_S = 60.0

pytestmark = pytest.mark.usefixtures("topics")

BUILDER = """
import asyncio, sys
from pathlib import Path
from consumers.profiles import build_profiles
from runtime.process import run
from runtime.settings import load_settings

settings = load_settings(
    kafka_bootstrap_servers=sys.argv[1], topic_prefix=sys.argv[2], data_dir=Path(sys.argv[3]),
    host="127.0.0.1", ops_port=0, identity_key="identity-key-of-the-tests",
)
sys.exit(run(lambda stop: build_profiles(settings, stop)))
"""


async def send(settings: Settings, *log: Event) -> None:
    producer = make_producer(settings)
    await start_within(producer)
    try:
        acks = [
            await producer.send(
                settings.topic_prefix + event.topic,
                event.value,
                key=event.key,
                partition=partition_of(event.key.partition(b"/")[0], PARTITIONS),
            )
            for event in log
        ]
        await asyncio.gather(*acks)
    finally:
        await stop_within(producer)


async def eventually(what: Callable[[], bool], seconds: float = DEADLINE_S) -> None:
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline, f"not within {seconds:g} s"
        await asyncio.sleep(0.05)


@contextlib.asynccontextmanager
async def building(settings: Settings) -> AsyncIterator[ProfileBuilder]:
    """A builder in this process, until the end of the block."""
    stop = asyncio.Event()
    builder = ProfileBuilder(settings)
    running = asyncio.create_task(builder.run(stop))
    try:
        yield builder
    finally:
        stop.set()
        await asyncio.wait_for(running, 15)


def seen(builder: ProfileBuilder) -> int:
    """How many records it is past, as of its last look."""
    health = builder.health()
    return sum(health.reasons["positions"].values()) if health.ready and health.reasons["lag"] == 0 else -1


def dump_of(state_dir: Path) -> Dump:
    store = ProfileStore(state_dir)
    try:
        assert store.reset_reason is None
        return list(store.dump())
    finally:
        store.close()


async def folded_afresh(settings: Settings, state_dir: Path, batch: int = 10**6) -> Dump:
    """What the topics say, folded topic by topic and partition by partition."""
    store = ProfileStore(state_dir)
    follower = Follower(settings, TOPICS, time.monotonic)
    try:
        await follower.open()
        follower.start({})
        found: dict[tuple[str, int], list[Slice]] = {}
        while (await follower.measure())[0] != follower.ends:
            for part in await follower.poll():
                found.setdefault((part.topic, part.partition), []).append(part)
        for where in sorted(found):
            for part in found[where]:
                for start in range(0, len(part.messages), batch):
                    store.fold([Slice(*where, part.next_offset, part.messages[start : start + batch])])
        for where, end in follower.ends.items():
            store.fold([Slice(*where, end, ())])
        return list(store.dump())
    finally:
        store.close()
        await follower.close()


def some_events(number: int, seed: int) -> list[Event]:
    """Calls, prefetches and facts of a few callers: with duplicates, revisions, and callers that change."""
    chance = random.Random(seed)
    log: list[Event] = []
    for n in range(number):
        caller, session = f"caller-{chance.randrange(40)}", f"session-{chance.randrange(number // 2)}"
        kind = chance.random()
        if kind < 0.2:
            log.append(prefetched(session, caller, n))
        elif kind < 0.3:
            log.append(fact(caller, f"fact-{chance.randrange(3)}", n) if n % 3 else no_fact(caller, "fact-1"))
        elif kind < 0.4 and log:
            log.append(chance.choice([event for event in log[-20:] if event.topic != CALLERS_FACTS.name] or [log[0]]))
        else:
            cost = chance.choice((None, [{"credit": chance.randrange(1000) / 1e4}]))
            log.append(ended(session, caller, n, ts=chance.randrange(1, 500), duration=n, cost_breakdown=cost))
    return log


async def test_builder_builds_what_the_topics_say(settings: Settings, tmp_path: Path) -> None:
    await send(settings, *some_events(300, 1))
    async with building(settings) as builder:
        await eventually(lambda: seen(builder) == 300)
        await send(settings, *some_events(100, 2), Event(CALLS_ENDED.name, b"x", b"no event"))
        await eventually(lambda: seen(builder) == 401)
    built = dump_of(settings.state_dir)
    assert built == await folded_afresh(settings, tmp_path / "afresh", batch=7)
    assert {database for database, _, _ in built} == {"profiles", "sessions", "calls", "meta"}


async def keep_sending(settings: Settings, sent: list[int]) -> None:
    """Until cancelled. The total is in `sent` only when all of it is acknowledged."""
    for seed in range(10_000):
        batch = asyncio.ensure_future(send(settings, *some_events(200, seed)))
        try:
            await asyncio.shield(batch)
        except asyncio.CancelledError:
            await batch
            sent.append(200)
            raise
        sent.append(200)


async def test_builder_that_is_killed_again_and_again_builds_the_same(settings: Settings, tmp_path: Path) -> None:
    arguments = [settings.bootstrap_servers, settings.topic_prefix, str(settings.data_dir)]
    environment = {**os.environ, "PYTHONPATH": str(Path.cwd())}
    sent: list[int] = []
    sending = asyncio.create_task(keep_sending(settings, sent))
    read = 0
    for round_ in range(5):
        process = await asyncio.create_subprocess_exec(sys.executable, "-c", BUILDER, *arguments, env=environment)
        reader = ProfileReader(settings.state_dir)
        try:
            await eventually(partial(has_grown, reader, read))
            await asyncio.sleep(0.11 * round_)  # somewhere in a batch, or between two
        finally:
            process.kill()
            await process.wait()
        read = refreshed(reader)
        reader.close()
    sending.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await sending
    assert read > 0
    async with building(settings) as builder:
        await eventually(lambda: seen(builder) == sum(sent))
    assert dump_of(settings.state_dir) == await folded_afresh(settings, tmp_path / "afresh")


def has_grown(reader: ProfileReader, before: int) -> bool:
    return refreshed(reader) > before


def refreshed(reader: ProfileReader) -> int:
    """How many records the store is past."""
    reader.refresh()
    return sum(reader.positions().values())


async def test_deleted_store_comes_back_the_same_under_a_running_builder(settings: Settings) -> None:
    await send(settings, *some_events(200, 3))
    async with building(settings) as builder:
        await eventually(lambda: seen(builder) == 200)
        file = store_path(settings.state_dir) / DATA_FILE
        with file.open("rb") as held:  # else the new file might get the inode of the old one, and pass for it
            before = os.fstat(held.fileno()).st_ino
            shutil.rmtree(file.parent)
            await eventually(lambda: file.exists() and file.stat().st_ino != before and seen(builder) == 200)
        await eventually(lambda: builder.health().reasons["store"] == "open")
    first = dump_of(settings.state_dir)
    shutil.rmtree(settings.state_dir)
    async with building(settings) as builder:
        await eventually(lambda: seen(builder) == 200)
    assert dump_of(settings.state_dir) == first


async def with_admin(settings: Settings, work: Callable[..., Awaitable[object]]) -> None:
    admin = make_admin(settings)
    await start_within(admin)
    try:
        await work(admin)
    finally:
        await stop_within(admin)


async def test_builder_notices_new_partitions(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("consumers.follower.METADATA_AGE_MS", 500)
    await send(settings, *some_events(50, 4))
    name = CALLS_ENDED.named(settings.topic_prefix)
    async with building(settings) as builder:
        await eventually(lambda: seen(builder) == 50)
        await with_admin(settings, lambda admin: admin.create_partitions({name: NewPartitions(PARTITIONS + 1)}))
        await eventually(lambda: f"{CALLS_ENDED.name}/{PARTITIONS}" in builder.health().reasons["positions"])
        producer = make_producer(settings)
        await start_within(producer)
        await producer.send_and_wait(name, ended("late", "caller-1").value, partition=PARTITIONS)
        await stop_within(producer)
        await eventually(lambda: seen(builder) == 51)


async def test_store_is_built_anew_when_retention_took_what_it_had_not_read(settings: Settings, tmp_path: Path) -> None:
    await send(settings, *some_events(100, 5))
    async with building(settings) as builder:
        await eventually(lambda: seen(builder) == 100)
    await send(settings, *some_events(300, 6))
    name = CALLS_ENDED.named(settings.topic_prefix)
    consumer = make_consumer(settings)
    await start_within(consumer)
    partitions = [TopicPartition(name, number) for number in range(PARTITIONS)]
    consumer.assign(partitions)
    ends = await consumer.end_offsets(partitions)
    await stop_within(consumer)
    cut = {tp: RecordsToDelete(end - 5) for tp, end in ends.items()}
    await with_admin(settings, lambda admin: admin.delete_records(cut))
    async with building(settings) as builder:
        await eventually(lambda: seen(builder) == 400)
    assert dump_of(settings.state_dir) == await folded_afresh(settings, tmp_path / "afresh")


async def test_store_of_other_topics_is_not_continued(settings: Settings) -> None:
    store = ProfileStore(settings.state_dir)
    store.fold([Slice(CALLS_ENDED.name, 0, 3, [ended("s", "stranger").at(0)])])
    store.close()
    await send(settings, *some_events(50, 7))
    async with building(settings) as builder:
        await eventually(lambda: seen(builder) == 50)
    assert not [
        key for database, key, _ in dump_of(settings.state_dir) if database == "profiles" and key == b"stranger"
    ]


async def test_builder_waits_for_kafka_and_stops_while_it_waits(settings: Settings) -> None:
    nowhere = settings.model_copy(update={"kafka_bootstrap_servers": "127.0.0.1:1"})
    async with building(nowhere) as builder:
        await eventually(lambda: builder.health().reasons["store"] == "open")
        await asyncio.sleep(0.5)
        assert not builder.health().ready
        assert builder.health().reasons["kafka"] == "waiting"


async def test_second_builder_waits_until_the_first_has_left(settings: Settings) -> None:
    await send(settings, *some_events(50, 8))
    stop = asyncio.Event()
    first = ProfileBuilder(settings)
    running = asyncio.create_task(first.run(stop))
    await eventually(lambda: seen(first) == 50)
    async with building(settings) as second:
        await asyncio.sleep(0.5)
        assert second.health().reasons["store"] != "open"
        stop.set()
        await running
        await eventually(lambda: seen(second) == 50)
