"""What tests of the runner share: events to be added up, a runner that does it, and processes of it."""

import asyncio
import contextlib
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
from aiokafka import ConsumerRecord, TopicPartition
from aiokafka.admin import NewTopic
from sqlalchemy import Engine, select

from consumers import database
from consumers.outbox import OutboxRelay
from consumers.publisher import Publisher
from consumers.runner import Runner
from consumers.tables import outbox
from runtime.kafka import make_admin, make_consumer, make_producer, start_within, stop_within
from runtime.settings import PREFIX, Settings
from schemas.event import ENDED, headers_of
from schemas.topics import BILLING_CHARGES, CALLS_ENDED, Topic, dead_letters
from tests import tally
from tests.tally import Counted, Tally

PARTITIONS = 2
TOPICS = (CALLS_ENDED, BILLING_CHARGES, dead_letters("tally"))
REPOSITORY = Path(tally.__file__).parents[1]


async def prepare(settings: Settings) -> Settings:
    """Topics and tables."""
    await create(settings, TOPICS)
    database.migrate(settings)
    with opened(settings) as engine:
        tally.metadata.create_all(engine)
    return settings


async def create(settings: Settings, topics: tuple[Topic, ...]) -> None:
    admin = make_admin(settings)
    await start_within(admin)
    names = {topic.named(settings.topic_prefix): topic for topic in topics}
    new = [NewTopic(name, PARTITIONS, 1, topic_configs=topic.config(1)) for name, topic in names.items()]
    await admin.create_topics(new)
    await stop_within(admin)


@contextlib.contextmanager
def opened(settings: Settings) -> Iterator[Engine]:
    engine = database.open_engine(settings)
    yield engine
    engine.dispose()


async def publish(settings: Settings, events: list[Counted], partition: int | None = None) -> None:
    """In turn to each partition, or all to one."""
    producer = make_producer(settings)
    await start_within(producer)
    topic = CALLS_ENDED.named(settings.topic_prefix)
    sent = []
    for n, event in enumerate(events):
        to = n % PARTITIONS if partition is None else partition
        headers = headers_of(ENDED, f"event-{n}", 1)
        sent.append(await producer.send(topic, msgspec.json.encode(event), key=b"c", partition=to, headers=headers))
    await asyncio.gather(*sent)
    await producer.stop()


async def read(settings: Settings, topic: Topic) -> list[ConsumerRecord]:
    """All that lies in a topic."""
    consumer = make_consumer(settings)
    await start_within(consumer)
    partitions = [TopicPartition(topic.named(settings.topic_prefix), n) for n in range(PARTITIONS)]
    consumer.assign(partitions)
    found = []
    for tp, end in (await consumer.end_offsets(partitions)).items():
        consumer.seek(tp, 0)
        while await consumer.position(tp) < end:
            for records in (await consumer.getmany(tp, timeout_ms=500)).values():
                found += records
    await consumer.stop()
    return found


async def until(condition: Callable[[], bool], timeout_s: float = 30.0) -> None:
    async with asyncio.timeout(timeout_s):
        while not condition():  # noqa: ASYNC110 - what is waited for happens in databases and processes
            await asyncio.sleep(0.05)


@asynccontextmanager
async def running(settings: Settings, consumer: Tally, engine: Engine) -> AsyncIterator[Runner]:
    """A runner with its outbox; stopped in order afterwards."""
    stop = asyncio.Event()
    publisher = Publisher(settings)
    relay = OutboxRelay(settings, consumer.name, engine, publisher)
    runner = Runner(settings, consumer, engine, publisher, committed=relay.wake)
    tasks = [asyncio.create_task(runner.run(stop)), asyncio.create_task(relay.run(stop))]
    try:
        yield runner
    finally:
        stop.set()
        async with asyncio.timeout(12):
            await asyncio.gather(*tasks)
            await publisher.stop()


def outbox_is_empty(engine: Engine) -> bool:
    with engine.connect() as tx:
        return not tx.execute(select(outbox.c.id)).all()


def grown(file: Path, size: int) -> Callable[[], bool]:
    return lambda: file.stat().st_size > size


def start_process(settings: Settings, diary: Path, pause_s: float = 0.5) -> subprocess.Popen[bytes]:
    environment = {
        **os.environ,
        f"{PREFIX}KAFKA_BOOTSTRAP_SERVERS": settings.bootstrap_servers,
        f"{PREFIX}TOPIC_PREFIX": settings.topic_prefix,
        f"{PREFIX}DATABASE_URL": settings.database,
        f"{PREFIX}HOST": "127.0.0.1",
        f"{PREFIX}OPS_PORT": "0",
    }
    return subprocess.Popen(
        [sys.executable, "-m", "tests.tally", str(pause_s), str(diary)],
        cwd=REPOSITORY,
        env=environment,
        stderr=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    )
