"""A call's end in Kafka becomes sound in object storage, a row, and an event that tells of it; deaths included."""

import asyncio
import contextlib
import hashlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from aiokafka import TopicPartition
from sqlalchemy import select

from consumers.database import migrate, open_engine
from consumers.process import consume
from consumers.tables import recordings
from runtime.kafka import make_consumer, make_producer, record_of, start_within, stop_within
from runtime.settings import Settings
from schemas.derived import RecordingStored
from schemas.event import RECORDED, Record
from schemas.topics import CALLS_ENDED, RECORDINGS_STORED, dead_letters
from tests.ended_calls import ended
from tests.unit.consumers.recordings.sound_server import WAV, SoundServer, serving

pytestmark = pytest.mark.usefixtures("topics")


@pytest.fixture
async def sounds() -> AsyncIterator[SoundServer]:
    async with serving() as server:
        yield server


@pytest.fixture
def prepared(settings: Settings, database_url: str, sounds: SoundServer) -> Settings:
    prepared = settings.model_copy(
        update={"database_url": database_url, "recording_private_hosts": [sounds.address], "topic_replication": 1}
    )
    migrate(prepared)
    return prepared


@contextlib.asynccontextmanager
async def consuming(settings: Settings) -> AsyncIterator[None]:
    """`ringlog consume recordings`, in this process."""
    stop = asyncio.Event()
    running = asyncio.create_task(consume(settings, "recordings", stop))
    try:
        yield
    finally:
        stop.set()
        assert await running == 0


async def publish(settings: Settings, *records: Record) -> None:
    producer = make_producer(settings)
    await start_within(producer)
    for record in records:
        headers = list(record.headers)
        await producer.send_and_wait(
            CALLS_ENDED.named(settings.topic_prefix), record.value, record.key, headers=headers
        )
    await producer.stop()


async def published(settings: Settings, topic: str, count: int) -> list[Record]:
    """The first `count` records of the topic."""
    consumer = make_consumer(settings)
    await start_within(consumer)
    name = settings.topic_prefix + topic
    parts = [TopicPartition(name, n) for n in range(settings.topic_partitions or 1)]
    consumer.assign(parts)
    found: list[Record] = []
    try:
        await consumer.seek_to_beginning(*parts)
        async with asyncio.timeout(30):
            while len(found) < count:
                for messages in (await consumer.getmany(timeout_ms=200)).values():
                    found += [record_of(message) for message in messages]
    finally:
        await stop_within(consumer)
    return found


def rows(settings: Settings) -> list[dict[str, Any]]:
    engine = open_engine(settings)
    try:
        with engine.connect() as tx:
            return [dict(row) for row in tx.execute(select(recordings).order_by(recordings.c.session_id)).mappings()]
    finally:
        engine.dispose()


def called(session_id: str, url: str) -> Record:
    body = {"session_id": session_id, "ts": 1_767_225_500.5, "recording": {"recording_url": url}}
    return ended(session_id, 0, body, agent_id="agent001")


async def test_from_the_end_of_a_call_to_the_event_that_its_sound_is_stored(
    prepared: Settings, sounds: SoundServer
) -> None:
    sounds.paths |= {"/1": WAV, "/2": [404, WAV + b"2"]}
    one, two = called("s1", sounds.url("/1")), called("s2", sounds.url("/2"))
    await publish(prepared, one, two, one)
    async with consuming(prepared):
        events = await published(prepared, RECORDINGS_STORED.name, 2)
    stored = {
        event.header("ce_subject"): msgspec.json.decode(event.value or b"", type=RecordingStored) for event in events
    }
    assert {event.event_type for event in events} == {RECORDED}
    for session_id, source, sound in (("s1", one, WAV), ("s2", two, WAV + b"2")):
        said = stored[session_id]
        assert said.object == f"agent001/2025/12/31/{session_id}.wav"
        assert said.sha256 == hashlib.sha256(sound).hexdigest()
        assert said.source_event_id == source.header("ce_id")
        assert (prepared.data_dir / "recordings" / said.object).read_bytes() == sound
    assert [(row["session_id"], row["status"]) for row in rows(prepared)] == [("s1", "stored"), ("s2", "stored")]
    assert sorted(sounds.asked()) == ["/1", "/2", "/2"]


async def test_lost_books_come_out_the_same_without_asking_the_network(
    prepared: Settings, sounds: SoundServer, tmp_path: Path
) -> None:
    sounds.paths["/1"] = WAV
    await publish(prepared, called("s1", sounds.url("/1")))
    async with consuming(prepared):
        (first,) = await published(prepared, RECORDINGS_STORED.name, 1)
    before = rows(prepared)
    anew = prepared.model_copy(update={"database_url": f"sqlite:///{tmp_path / 'anew.db'}"})
    migrate(anew)
    async with consuming(anew):
        _, second = await published(anew, RECORDINGS_STORED.name, 2)
    assert rows(anew) == before
    assert (second.key, second.value, second.headers) == (first.key, first.value, first.headers)
    assert sounds.asked() == ["/1"]


async def test_what_is_no_ended_call_goes_to_the_dead_letters_and_holds_up_nobody(
    prepared: Settings, sounds: SoundServer
) -> None:
    sounds.paths["/1"] = WAV
    good = called("s1", sounds.url("/1"))
    await publish(prepared, msgspec.structs.replace(good, value=b"not an event"), good)
    async with consuming(prepared):
        await published(prepared, RECORDINGS_STORED.name, 1)
        (letter,) = await published(prepared, dead_letters("recordings").name, 1)
    assert letter.value == b"not an event"
