"""What tests of the profile builder share: events in the topics, a builder, and what lies in its store."""

import asyncio
import contextlib
import os
import random
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

from aiokafka.admin import RecordsToDelete
from aiokafka.structs import TopicPartition

from consumers.follower import Follower
from consumers.profiles import ProfileBuilder
from runtime.kafka import make_admin, make_consumer, make_producer, start_within, stop_within
from runtime.settings import Settings
from schemas.partition import partition_of
from schemas.topics import CALLERS_FACTS, CALLS_ENDED
from state.fold import TOPICS
from state.generations import Generations
from state.slices import Slice
from state.store import ProfileStore
from tests.unit.state.events import Event, ended, fact, no_fact, prefetched

Dump = list[tuple[str, bytes, bytes]]

PARTITIONS = 2  # as the fixture `topics` makes them
DEADLINE_S = 60.0

# A builder, or another command, as a process of its own.
_PROCESS = """
import sys
{rules}
from cli.main import main

sys.argv[0] = "ringlog"
main()
"""


def environment_of(settings: Settings) -> dict[str, str]:
    return {
        **os.environ,
        "PYTHONPATH": str(Path.cwd()),
        "RINGLOG_KAFKA_BOOTSTRAP_SERVERS": settings.bootstrap_servers,
        "RINGLOG_TOPIC_PREFIX": settings.topic_prefix,
        "RINGLOG_DATA_DIR": str(settings.data_dir),
        "RINGLOG_HOST": "127.0.0.1",
        "RINGLOG_OPS_PORT": "0",
    }


async def ringlog(settings: Settings, *words: str, rules: str = "") -> asyncio.subprocess.Process:
    """A command, begun. `rules` are statements that change the fold's before anything of it is loaded."""
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        _PROCESS.format(rules=rules),
        *words,
        env=environment_of(settings),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE if words[0] != "consume" else None,
    )


async def builder_process(settings: Settings, rules: str = "") -> asyncio.subprocess.Process:
    return await ringlog(settings, "consume", "profiles", rules=rules)


async def send(settings: Settings, *log: Event, partitions: int = PARTITIONS) -> None:
    producer = make_producer(settings)
    await start_within(producer)
    try:
        acks = [
            await producer.send(
                settings.topic_prefix + event.topic,
                event.value,
                key=event.key,
                partition=partition_of(event.key.partition(b"/")[0], partitions),
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


def served(settings: Settings) -> Path:
    """The directory of the generation that is served."""
    path = Generations(settings.state_dir).serving()
    assert path is not None
    return path


def dump_of(settings: Settings) -> Dump:
    """Of the generation that is served."""
    store = ProfileStore(served(settings))
    try:
        return list(store.dump())
    finally:
        store.close()


async def folded_afresh(settings: Settings, path: Path, batch: int = 10**6) -> Dump:
    """What the topics say, folded topic by topic and partition by partition."""
    store = ProfileStore(path)
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


async def with_admin(settings: Settings, work: Callable[..., Awaitable[object]]) -> None:
    admin = make_admin(settings)
    await start_within(admin)
    try:
        await work(admin)
    finally:
        await stop_within(admin)


async def forget(settings: Settings, keep: int) -> None:
    """Takes the ended calls from the head of their topic, all but the last few of each partition: as retention does."""
    consumer = make_consumer(settings)
    await start_within(consumer)
    partitions = [TopicPartition(CALLS_ENDED.named(settings.topic_prefix), number) for number in range(PARTITIONS)]
    consumer.assign(partitions)
    ends = await consumer.end_offsets(partitions)
    await stop_within(consumer)
    cut = {tp: RecordsToDelete(end - keep) for tp, end in ends.items()}
    await with_admin(settings, lambda admin: admin.delete_records(cut))
