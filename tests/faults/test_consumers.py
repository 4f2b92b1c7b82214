"""Consumers that are killed, frozen, shuffled and robbed of their offsets: the books stay right to the micro-credit."""

import asyncio
import random
import signal
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path

import pytest
from aiokafka import TopicPartition
from aiokafka.errors import CommitFailedError
from aiokafka.protocol.admin import DeleteGroupsRequest

from runtime.kafka import make_admin, make_consumer, start_within, stop_within
from runtime.local_kafka import LocalKafka
from runtime.settings import Settings
from tests.faults.books_scene import SETTLE_S, BooksScene, books_settings, prepare, until
from tests.faults.consumer_process import STOP_WITHIN_S, consuming, kill_all
from tests.faults.history import History
from tests.faults.quick_kafka import QUICK_MS
from tests.faults.saboteur import Point, Sabotage

BOOKS = ("billing", "transcripts")

FROZEN_BROKER_S = 25.0

NON_EMPTY_GROUP = 68  # Kafka's answer to whoever deletes the offsets of a group that is at work


@pytest.fixture
async def scene(quick_kafka: str, tmp_path: Path, new_database: Callable[[], str]) -> BooksScene:
    """On PostgreSQL, with some hundred events."""
    return await prepared(quick_kafka, new_database(), tmp_path, 150)


async def prepared(
    kafka: str, database_url: str, directory: Path, calls: int, consumers: Sequence[str] = BOOKS
) -> BooksScene:
    settings = books_settings(kafka, database_url, directory)
    await prepare(settings)
    return BooksScene(settings, History(settings, calls), directory, consumers)


AFTER_THE_COMMIT: tuple[Point, ...] = ("committed",)
ANYWHERE: tuple[Point, ...] = ("polled", "committing", "committed", "published")


@pytest.mark.parametrize("kills", [10, pytest.param(200, marks=[pytest.mark.slow, pytest.mark.timeout(600)])])
async def test_killed_after_the_commit(
    quick_kafka: str, new_database: Callable[[], str], tmp_path: Path, kills: int
) -> None:
    """Between the database's commit and the group's."""
    await killed_again_and_again(quick_kafka, new_database(), tmp_path, kills, AFTER_THE_COMMIT)


@pytest.mark.parametrize("kills", [pytest.param(60, marks=[pytest.mark.slow, pytest.mark.timeout(400)])])
async def test_killed_on_sqlite(quick_kafka: str, tmp_path: Path, kills: int) -> None:
    """Between any two steps."""
    await killed_again_and_again(quick_kafka, f"sqlite:///{tmp_path}/books.db", tmp_path, kills, ANYWHERE)


async def killed_again_and_again(
    kafka: str, database_url: str, directory: Path, kills: int, points: tuple[Point, ...]
) -> None:
    """With poison among the events."""
    scene = await prepared(kafka, database_url, directory, 50 + 6 * kills)
    scene.history.poisoned(2)
    names = (*BOOKS, "counting")
    done = asyncio.Event()
    # Slowly: on a busy machine a start takes seconds, and the last one to be killed needs events, too.
    feeding = asyncio.create_task(scene.history.put_steadily(4, done))
    shares = [kills // len(names) + (number < kills % len(names)) for number in range(len(names))]
    await asyncio.gather(*(killed(scene, name, share, points) for name, share in zip(names, shares, strict=True)))
    done.set()
    await feeding
    with consuming(*(scene.process(name) for name in names)):
        await scene.settled(3 * SETTLE_S)
        assert await scene.wrong() == []


async def killed(scene: BooksScene, name: str, kills: int, points: tuple[Point, ...]) -> None:
    """One process after the other, each killed by its own hand where it is meant to be."""
    chance = random.Random(name)
    if name == "counting":  # it publishes nothing
        points = tuple(point for point in points if point != "published")
    for number in range(kills):
        at = points[number % len(points)]
        sabotage = Sabotage(at=at, time=chance.randint(1, 3), session_timeout_ms=QUICK_MS)
        process = scene.process(name, sabotage)
        try:
            code = await asyncio.to_thread(process.wait, SETTLE_S)
        finally:
            process.kill()
        assert code == -signal.SIGKILL, f"{name} ended with {code}; {process.last_words()}"


@pytest.mark.parametrize("at", [pytest.param("polled", marks=pytest.mark.slow), "committing"])
async def test_one_that_was_frozen_writes_nothing_when_it_wakes(scene: BooksScene, at: Point) -> None:
    """Past its session: another process has its partitions then, even if it froze in the middle of a transaction."""
    frozen = Sabotage(at=at, time=2, strike=signal.SIGSTOP, session_timeout_ms=QUICK_MS, abandoned_after_s=2.0)
    await frozen_and_woken(scene, frozen)
    assert await scene.wrong() == []


async def frozen_and_woken(scene: BooksScene, sabotage: Sabotage, session_timeout_ms: int | None = QUICK_MS) -> None:
    """One process freezes, another takes over and does all there is to do, then the first one wakes."""
    zombie = scene.process("counting", sabotage)
    with ExitStack() as stack:
        stack.callback(zombie.kill)
        done = asyncio.Event()
        feeding = asyncio.create_task(scene.history.put_steadily(20, done))
        await until(lambda: zombie.state() == "T", "the process freezes")
        others = [scene.process(name, Sabotage(session_timeout_ms=session_timeout_ms)) for name in (*BOOKS, "counting")]
        stack.enter_context(consuming(*others))
        await until(lambda: scene.read_count("counting") >= scene.history.put_count, "another takes over")
        zombie.send(signal.SIGCONT)
        await asyncio.sleep(1.0)  # it has been doing what it was about to do
        done.set()
        await feeding
        await scene.settled()
        assert zombie.stop() == 0
        await scene.settled()


@pytest.mark.slow
async def test_one_that_was_frozen_past_kafkas_own_timeouts(scene: BooksScene) -> None:
    """As above, and nothing about the processes is changed."""
    await frozen_and_woken(scene, Sabotage(at="polled", time=2, strike=signal.SIGSTOP), None)
    assert await scene.wrong() == []


@pytest.mark.parametrize("lasts_s", [10, pytest.param(60, marks=pytest.mark.slow)])
async def test_processes_that_join_and_leave_every_two_seconds(
    quick_kafka: str, new_database: Callable[[], str], tmp_path: Path, lasts_s: int
) -> None:
    """Two or three of each consumer: every two seconds one comes and, from the third on, the oldest goes."""
    scene = await prepared(quick_kafka, new_database(), tmp_path, 150, ["billing"])
    done = asyncio.Event()
    feeding = asyncio.create_task(scene.history.put_steadily(len(scene.history.events) / lasts_s, done))
    members = {name: [scene.process(name)] for name in ("billing", "counting")}
    with ExitStack() as stack:
        stack.callback(lambda: kill_all([process for some in members.values() for process in some]))
        for _ in range(lasts_s // 2):
            for name, some in members.items():
                some.append(scene.process(name))
            await asyncio.sleep(2)
            for some in members.values():
                if len(some) > 2:
                    leaving = some.pop(0)
                    await asyncio.to_thread(leaving.begun, STOP_WITHIN_S)
                    assert await asyncio.to_thread(leaving.stop) == 0, leaving.last_words()
        done.set()
        await feeding
        await scene.settled()
        assert await scene.wrong() == []
        for process in [process for some in members.values() for process in some]:
            assert await asyncio.to_thread(process.stop) == 0, process.last_words()


@pytest.mark.slow
async def test_the_groups_offsets_deleted(scene: BooksScene) -> None:
    """Kafka lets nobody touch them while a process is at work; while none is, they may go, and nothing changes."""
    group = f"{scene.settings.topic_prefix}ringlog.counting"
    with consuming(*(scene.process(name) for name in (*BOOKS, "counting"))):
        await scene.history.put(100)
        await scene.settled()
        assert await delete_group(scene.settings, group) == NON_EMPTY_GROUP
        with pytest.raises(CommitFailedError):
            await rewind(scene, group)
    for name in (*BOOKS, "counting"):
        assert await delete_group(scene.settings, f"{scene.settings.topic_prefix}ringlog.{name}") == 0
    with consuming(*(scene.process(name) for name in (*BOOKS, "counting"))):
        await scene.history.put()
        await scene.settled()
        assert await scene.wrong() == []


async def delete_group(settings: Settings, group: str) -> int:
    """Kafka's error code."""
    admin = make_admin(settings)
    await start_within(admin)
    try:
        node = await admin.find_coordinator(group)
        answer = await admin._send_request_to_node(node, DeleteGroupsRequest([group]))
        ((_, code),) = answer.results
        return int(code)
    finally:
        await stop_within(admin)


async def rewind(scene: BooksScene, group: str) -> None:
    """As a stranger, without being a member."""
    consumer = make_consumer(scene.settings, group)
    consumer.assign([TopicPartition(f"{scene.settings.topic_prefix}calls.ended", 0)])
    await start_within(consumer)
    try:
        await consumer.commit(dict.fromkeys(consumer.assignment(), 0))
    finally:
        await stop_within(consumer)


@pytest.mark.parametrize("kills", [pytest.param(20, marks=[pytest.mark.slow, pytest.mark.timeout(300)])])
async def test_killed_at_any_moment(scene: BooksScene, kills: int) -> None:
    """`kill -9` from outside, of one of two that share the partitions."""
    chance = random.Random(kills)
    done = asyncio.Event()
    feeding = asyncio.create_task(scene.history.put_steadily(40, done))
    names = (*BOOKS, "counting")
    processes = [scene.process(name, Sabotage(session_timeout_ms=QUICK_MS)) for name in names for _ in range(2)]
    with ExitStack() as stack:
        stack.callback(kill_all, processes)
        for _ in range(kills):
            await asyncio.sleep(chance.uniform(0.2, 2.5))
            victim = chance.randrange(len(processes))
            assert processes[victim].exit_code is None, processes[victim].last_words()
            processes[victim].kill()
            processes[victim] = scene.process(processes[victim].name, Sabotage(session_timeout_ms=QUICK_MS))
        done.set()
        await feeding
        await scene.settled()
        assert await scene.wrong() == []


@pytest.mark.slow
async def test_the_broker_that_coordinates_dies_and_hangs(tmp_path: Path, new_database: Callable[[], str]) -> None:
    """Killed and started again; then frozen for longer than anybody waits for an answer."""
    with LocalKafka(tmp_path / "broker") as kafka:
        scene = await prepared(kafka.bootstrap_servers, new_database(), tmp_path, 150)
        with consuming(*(scene.process(name) for name in (*BOOKS, "counting") for _ in range(2))):
            await scene.history.put(100)
            await asyncio.to_thread(kafka.restart)
            await scene.history.put(100)
            kafka.pause()
            await asyncio.sleep(FROZEN_BROKER_S)
            kafka.resume()
            await scene.history.put()
            await scene.settled(2 * SETTLE_S)
            assert await scene.wrong() == []
