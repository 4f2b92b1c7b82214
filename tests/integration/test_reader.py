"""One life of a consumer's client: when it is given up, and what is left of it."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaTimeoutError

from consumers import database, lag_watch
from consumers.billing import Billing
from consumers.effects import BATCH_BYTES
from consumers.lag_watch import Stalled
from consumers.parcels import Message
from consumers.progress import Abandoned
from consumers.publisher import Publisher
from consumers.reader import BATCH_RECORDS, PART_RECORDS, Reader
from runtime.kafka import connection, start_within, stop_within
from runtime.local_kafka import LocalKafka
from runtime.settings import Settings
from runtime.topics import apply
from schemas.event import Record
from schemas.topics import CALLS_ENDED


@asynccontextmanager
async def opened(settings: Settings) -> AsyncIterator[Reader]:
    """One that knows its partitions."""
    await asyncio.to_thread(database.migrate, settings)
    engine = database.open_engine(settings)
    reading = Reader(settings, Billing(), engine)
    try:
        await reading.open()
        async with asyncio.timeout(20):
            while not reading.is_reading:
                await reading.poll()
        yield reading
    finally:
        await reading.close()
        engine.dispose()


@pytest.mark.usefixtures("topics")
async def test_a_lag_that_can_not_be_measured_is_borne_for_as_long_as_a_stall(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A partition without a leader: Kafka answers nothing of it, and goes on with the others."""
    monkeypatch.setattr(lag_watch, "WATCH_EVERY_S", 0.1)
    monkeypatch.setattr(lag_watch, "STALLED_AFTER_S", 2.0)

    async def refused(*_: Any) -> Any:
        raise KafkaTimeoutError

    async with opened(settings) as reading:
        reading._kafka.end_offsets = refused
        began = asyncio.get_running_loop().time()
        with pytest.raises(Stalled):
            while True:
                await reading.poll()
        assert asyncio.get_running_loop().time() - began >= 1.9


@pytest.mark.usefixtures("topics")
async def test_what_was_read_ahead_is_read_again_when_positions_are(settings: Settings) -> None:
    """The next batch is under way while one is handled. Nothing of it may be lost, or overtaken by what lies behind."""
    topic, publisher, count = CALLS_ENDED.named(settings.topic_prefix), Publisher(settings), 3 * BATCH_RECORDS
    events = [Message(topic=topic, key=f"{n}".encode(), value=b"{}", headers=[]) for n in range(count)]
    assert await publisher.publish(events) == [None] * count
    await publisher.stop()
    async with opened(settings) as reading:
        for read_before in (0, 1, 2):
            found: list[tuple[int, int]] = []
            for _ in range(read_before):
                assert len(await some(reading)) == BATCH_RECORDS
                await asyncio.sleep(0.2)
            reading.reposition(reading.epoch)
            while len(found) < count:
                found += [(it.partition, it.offset) for it in await some(reading)]
            partitions = [[offset for number, offset in found if number == partition] for partition in (0, 1)]
            assert [list(range(len(offsets))) for offsets in partitions] == partitions
            reading.reposition(reading.epoch)


async def test_a_fetch_that_unfolds_to_hundreds_of_megabytes_is_read_in_small_batches(
    settings: Settings, topics: tuple[str, ...]
) -> None:
    """What another program has compressed well. A large batch is alone in memory: none is read ahead beside it."""
    large, count = 2 * 1024 * 1024, 100
    async with opened(settings) as reading:
        await publish_compressed(settings, [b"{}"] * 50 + [b"x" * large] * count)
        batches: list[int] = []
        held: list[int] = []
        while sum(batches) < 50 + count:
            records = await some(reading)
            await asyncio.sleep(0.1)
            size = sum(len(record.value or b"") for record in records)
            ahead = [polled.result().bytes for polled in reading._polling.values() if polled.done()]
            assert size < BATCH_BYTES or ahead == []
            batches.append(len(records))
            held.append(size + sum(ahead))
    assert max(held) <= BATCH_BYTES + PART_RECORDS * large
    assert sorted(held)[-2] <= BATCH_BYTES + 2 * large, "only the first of them came as a surprise"


async def publish_compressed(settings: Settings, values: Sequence[bytes]) -> None:
    """All in one record batch, of some kilobytes."""
    producer = AIOKafkaProducer(
        **connection(settings), compression_type="zstd", max_batch_size=2**30, max_request_size=2**30, linger_ms=1000
    )
    await start_within(producer)
    topic = CALLS_ENDED.named(settings.topic_prefix)
    await asyncio.gather(*[await producer.send(topic, value, partition=0) for value in values])
    await stop_within(producer)


async def test_what_is_read_of_a_partition_that_is_gone_is_abandoned(
    settings: Settings, topics: tuple[str, ...]
) -> None:
    async with opened(settings) as reading:
        await publish_compressed(settings, [b"{}"])
        records = await some(reading)
        assert [(move.expected, move.next) for move in reading.moves(records)] == [(None, 1)]
        await reading.on_partitions_revoked(reading._kafka.assignment())
        with pytest.raises(Abandoned):
            reading.moves(records)


async def some(reading: Reader) -> Sequence[Record]:
    while not (polled := await reading.poll()).records:
        pass
    return polled.records


async def test_a_client_whose_broker_froze_leaves_no_task_and_no_connection_behind(
    settings: Settings, tmp_path: Path
) -> None:
    with LocalKafka(tmp_path / "broker") as kafka:
        own = settings.model_copy(update={"kafka_bootstrap_servers": kafka.bootstrap_servers, "topic_replication": 1})
        await apply(own)
        tasks, connections = asyncio.all_tasks(), sockets()
        async with opened(own):
            kafka.pause()
        # What was cancelled ends with the loop's next turns.
        async with asyncio.timeout(5):
            while asyncio.all_tasks() != tasks or sockets() != connections:  # noqa: ASYNC110 - of a library
                await asyncio.sleep(0.05)
        kafka.resume()


def sockets() -> int:
    return sum(1 for it in Path("/proc/self/fd").iterdir() if it.is_symlink() and "socket" in str(it.readlink()))
