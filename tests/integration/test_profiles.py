"""The profile builder against a real broker: what it builds is what the topics say, whatever happens to it."""

import asyncio
import contextlib
import os
import shutil
from functools import partial
from pathlib import Path

import pytest
from aiokafka.admin import NewPartitions

from consumers.folding import following
from consumers.profiles import ProfileBuilder
from runtime.kafka import make_producer, start_within, stop_within
from runtime.settings import Settings
from schemas.topics import CALLS_ENDED
from state.fold import FOLD_VERSION
from state.generations import Generations
from state.layout import DATA_FILE, About
from state.reader import ProfileReader
from state.slices import Slice
from state.store import ProfileStore
from tests.building import (
    PARTITIONS,
    builder_process,
    building,
    dump_of,
    eventually,
    folded_afresh,
    forget,
    seen,
    send,
    served,
    some_events,
    with_admin,
)
from tests.unit.state.events import Event, ended

pytestmark = pytest.mark.usefixtures("topics")


async def test_builder_builds_what_the_topics_say(settings: Settings, tmp_path: Path) -> None:
    await send(settings, *some_events(300, 1))
    async with building(settings) as builder:
        await eventually(lambda: seen(builder) == 300)
        await send(settings, *some_events(100, 2), Event(CALLS_ENDED.name, b"x", b"no event"))
        await eventually(lambda: seen(builder) == 401)
    built = dump_of(settings)
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
        await asyncio.sleep(0.1)  # on a busy machine the rounds are long, and all of it is folded again at the end


async def test_builder_that_is_killed_again_and_again_builds_the_same(settings: Settings, tmp_path: Path) -> None:
    sent: list[int] = []
    sending = asyncio.create_task(keep_sending(settings, sent))
    read = 0
    for round_ in range(5):
        process = await builder_process(settings)
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
    assert dump_of(settings) == await folded_afresh(settings, tmp_path / "afresh")


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
        # At once: what the builder still writes would come between the files and their folder.
        shutil.rmtree(served(settings).rename(settings.data_dir / "deleted"), ignore_errors=True)
        await eventually(
            lambda: (settings.state_dir / f"g2-v{FOLD_VERSION}" / DATA_FILE).exists() and seen(builder) == 200
        )
        await eventually(lambda: builder.health().reasons["store"] == "folding")
    assert served(settings).name == f"g2-v{FOLD_VERSION}"
    first = dump_of(settings)
    shutil.rmtree(settings.state_dir)
    async with building(settings) as builder:
        await eventually(lambda: seen(builder) == 200)
    assert dump_of(settings) == first


async def test_what_is_served_is_not_built_again_in_its_own_place(settings: Settings) -> None:
    await send(settings, *some_events(200, 3))
    async with building(settings) as builder:
        await eventually(lambda: seen(builder) == 200)
    shutil.rmtree(path := served(settings))
    ProfileStore(path).close()  # as when it is deleted just before the builder opens it
    async with building(settings) as builder:
        await eventually(lambda: seen(builder) == 200)
    assert served(settings).name == f"g2-v{FOLD_VERSION}"


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


async def test_batch_is_bounded_in_bytes_too(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("consumers.follower.BATCH_BYTES", 1_000_000)
    monkeypatch.setattr("consumers.follower.PART_RECORDS", 3)
    await send(settings, *(ended(f"s{n}", "ann", n, text="x" * 100_000) for n in range(100)))
    async with following(settings) as follower:
        follower.start({})
        sizes: list[int] = []
        while sum(sizes) < 100:
            sizes.append(sum(len(part.messages) for part in await follower.poll()))
    assert max(sizes) <= 12
    assert sum(sizes) == 100


async def test_store_lacks_what_retention_took_and_goes_on(settings: Settings) -> None:
    await send(settings, *some_events(100, 5))
    async with building(settings) as builder:
        await eventually(lambda: seen(builder) == 100)
    before = {key for database, key, _ in dump_of(settings) if database == "sessions"}
    await send(settings, *some_events(300, 6))
    await forget(settings, keep=5)
    async with building(settings) as builder:
        await eventually(lambda: seen(builder) == 400)
    assert served(settings).name == f"g1-v{FOLD_VERSION}"
    after = {key for database, key, _ in dump_of(settings) if database == "sessions"}
    assert before < after


async def test_store_is_built_anew_from_topics_that_may_forget(settings: Settings, tmp_path: Path) -> None:
    settings = settings.model_copy(update={"allow_forgetful_topics": True})
    await send(settings, *some_events(100, 5))
    async with building(settings) as builder:
        await eventually(lambda: seen(builder) == 100)
    await send(settings, *some_events(300, 6))
    await forget(settings, keep=5)
    async with building(settings) as builder:
        await eventually(lambda: seen(builder) == 400)
    assert served(settings).name == f"g2-v{FOLD_VERSION}"
    assert dump_of(settings) == await folded_afresh(settings, tmp_path / "afresh")


async def test_store_of_other_topics_is_not_continued(settings: Settings) -> None:
    generations = Generations(settings.state_dir)
    store = ProfileStore(generations.begin())
    store.fold([Slice(CALLS_ENDED.name, 0, 3, [ended("s", "stranger").at(0)])])
    store.set_about(About("another-cluster/", True, 1))
    store.close()
    generations.swap(store.path)
    await send(settings, *some_events(50, 7))
    async with building(settings) as builder:
        await eventually(lambda: seen(builder) == 50)
    assert not [key for database, key, _ in dump_of(settings) if database == "profiles" and key == b"stranger"]


async def test_builder_waits_for_kafka_and_stops_while_it_waits(settings: Settings) -> None:
    nowhere = settings.model_copy(update={"kafka_bootstrap_servers": "127.0.0.1:1"})
    async with building(nowhere) as builder:
        await asyncio.sleep(1.5)
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
        assert second.health().reasons["store"].startswith(f"waiting: another process ({os.getpid()}) builds")
        stop.set()
        await running
        await eventually(lambda: seen(second) == 50)
