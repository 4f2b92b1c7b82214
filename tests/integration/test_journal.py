"""The journal when Kafka refuses, when the producer can't be trusted, and when the spool's disk fails."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.structs import TopicPartition

from runtime.kafka import make_admin, start_within, stop_within
from runtime.settings import Settings
from runtime.topics import apply
from schemas.event import ENDED, headers_of
from schemas.topics import CALLS_ENDED, CALLS_PREFETCH, CALLS_REJECTED, Topic
from service import health
from service.app import TOPICS
from service.journal import Entry, Journal, NotDurable, drainer, spooler
from service.journal.lane import ACK_DEADLINE_S
from service.journal.layout import DATA_FILE
from service.journal.sealed import MAGIC
from service.journal.spool_lock import SpoolLock
from service.journal.spooler import Spooler
from tests.edge import EMPTY, Edge, call, metric, records_of, running
from tests.faults.hanging_disk import HangingDisk, hanging_disk
from tests.faults.small_disk import small_disk

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


async def configure(settings: Settings, topic: Topic, **configs: str) -> None:
    """What is not named goes back to the broker's default, but for what we could not start with."""
    admin = make_admin(settings)
    await start_within(admin)
    wanted = {"retention.ms": "-1", **{name.replace("_", "."): value for name, value in configs.items()}}
    name = topic.named(settings.topic_prefix)
    await admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, name, wanted)])
    await stop_within(admin)
    await asyncio.sleep(1)  # until the broker goes by it, which it does not tell


async def test_what_kafka_goes_on_refusing_is_set_aside_and_nothing_else(
    settings: Settings, topics: tuple[str, ...]
) -> None:
    """Together they are too large for the topic as it is now; by itself one is."""
    await configure(settings, CALLS_ENDED, max_message_bytes="10000")
    await configure(settings, CALLS_REJECTED, cleanup_policy="compact")
    small = [f"small-{n}" for n in range(12)]
    async with journal_of(settings) as journal:
        events = [entry(name, size=2000) for name in small]
        events.insert(3, entry("large", size=20_000))
        without_key = entry("without-key", topic=CALLS_REJECTED)
        await asyncio.gather(*(journal.publish(event) for event in [*events, without_key]))
        await until(lambda: is_drained() and metric("ringlog_spool_refused_events") == 2, 40)
        assert await ids_in(settings) == small
        assert journal.reasons()["spool_refused"] == 2
        await journal.publish(entry("behind"))
        assert (await ids_in(settings))[-1] == "behind"
    await configure(settings, CALLS_ENDED)
    await configure(settings, CALLS_REJECTED)
    async with journal_of(settings):
        await until(is_drained)
        assert metric("ringlog_spool_refused_events") == 0
    assert (await ids_in(settings))[-1] == "large"
    assert await ids_in(settings, CALLS_REJECTED) == ["without-key"]


async def test_an_event_larger_than_kafka_takes_never_comes_near_it(
    settings: Settings, topics: tuple[str, ...]
) -> None:
    rebuilds = metric("ringlog_producer_rebuilds_total")
    async with journal_of(settings) as journal:
        await journal.publish(entry("first"))
        huge = journal.publish(entry("huge", size=settings.max_request_bytes + 1))
        await asyncio.gather(huge, *(journal.publish(entry(f"{n}")) for n in range(3)))
        assert (metric("ringlog_spool_refused_events"), metric("ringlog_spool_events")) == (1, 0)
    assert metric("ringlog_producer_rebuilds_total") == rebuilds
    assert await ids_in(settings) == ["first", "0", "1", "2"]


def out_of_sequence(journal: Journal, settings: Settings) -> None:
    """The broker misses some records in between, and says so to everything that follows."""
    partitions = [TopicPartition(CALLS_ENDED.named(settings.topic_prefix), number) for number in range(2)]
    for partition in partitions:
        assert journal._producer is not None
        journal._producer._txn_manager.increment_sequence_number(partition, 5)


def silent(journal: Journal, _settings: Settings) -> None:
    """It takes everything, and sends nothing any more."""
    assert journal._producer is not None
    journal._producer._sender.sender_task.cancel()


@pytest.mark.parametrize("broken", [out_of_sequence, silent])
async def test_a_producer_that_is_broken_is_replaced_while_calls_go_on_and_nobody_waits_twice(
    settings: Settings, topics: tuple[str, ...], broken: Callable[[Journal, Settings], None]
) -> None:
    names: list[str] = []
    slow: Counter[int] = Counter()
    over = asyncio.Event()

    async def keep_calling(journal: Journal, client: int) -> None:
        while not over.is_set():
            names.append(f"{client}-{len(names)}")
            started = time.perf_counter()
            await journal.publish(entry(names[-1], caller=f"caller-{client}"))
            took_s = time.perf_counter() - started
            assert took_s < ACK_DEADLINE_S + SLACK_S
            slow[client] += took_s > ACK_DEADLINE_S - 0.5

    async with journal_of(settings) as journal:
        await journal.publish(entry("first"))
        calling = [asyncio.create_task(keep_calling(journal, client)) for client in range(16)]
        await asyncio.sleep(0.2)
        broken(journal, settings)
        await until(lambda: bool(metric("ringlog_lanes_open")))
        await until(is_drained)  # although nobody pauses
        over.set()
        await asyncio.gather(*calling)
        await until(is_drained)
    assert max(slow.values()) <= 1
    assert set(names) <= set(await ids_in(settings))


async def test_a_producer_that_goes_silent_while_the_spool_is_emptied_is_replaced(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drainer, "DELIVERY_DEADLINE_S", 0.5)
    monkeypatch.setattr(drainer, "LATE_S", 1.0)
    async with journal_of(settings, connected=False) as journal:
        await asyncio.gather(*(journal.publish(entry(f"{n}")) for n in range(10)))
        connected = journal.connected

        def connected_to_nobody(producer: AIOKafkaProducer, partitions: dict[str, int]) -> None:
            journal._connection._owner.connected = connected  # type: ignore[method-assign]
            connected(producer, partitions)
            silent(journal, settings)

        journal._connection._owner.connected = connected_to_nobody  # type: ignore[method-assign]
        await apply(settings)
        await until(lambda: journal.is_connected)
        await until(is_drained)
    assert await ids_in(settings) == [str(n) for n in range(10)]


async def test_to_be_flushed_no_partition_waits_for_what_others_commit_meanwhile(tmp_path: Path) -> None:
    subject, stop = Spooler(tmp_path / "spool", 2**28, lambda: None), asyncio.Event()
    task = asyncio.create_task(subject.run(stop))

    async def keep_spooling() -> None:
        while not stop.is_set():
            await subject.append([entry("others")])

    spooling = [asyncio.create_task(keep_spooling()) for _ in range(8)]
    await until(lambda: subject.backlog.events > 0)
    for _ in range(5):
        mine = subject.append([entry("mine")])
        async with asyncio.timeout(SLACK_S):
            await subject.flushed()
        assert mine.done()
    stop.set()
    await asyncio.gather(task, *spooling)
    await subject.close()


@pytest.mark.parametrize("more", [0, 4])
async def test_what_waits_for_its_commit_when_kafka_comes_is_published_and_not_overtaken(
    settings: Settings, hanging: HangingDisk, more: int
) -> None:
    on_disk = settings.model_copy(update={"data_dir": hanging.path / "data"})
    async with journal_of(on_disk, connected=False) as journal:
        await until(lambda: metric("ringlog_spool_usable") == 1)
        with hanging.hanging():
            publishing = [asyncio.create_task(journal.publish(entry(f"{n}"))) for n in range(4)]
            await apply(settings)
            await until(lambda: journal.is_connected)
            publishing += [asyncio.create_task(journal.publish(entry(f"{n}"))) for n in range(4, 4 + more)]
            await asyncio.sleep(0.2)
        await asyncio.gather(*publishing)
        await until(is_drained)
    assert await ids_in(settings) == [str(n) for n in range(4 + more)]


async def test_a_disk_that_hangs_keeps_nobody_waiting_and_nothing_from_kafka(
    settings: Settings, hanging: HangingDisk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spooler, "COMMIT_DEADLINE_S", 1.5)
    on_disk = settings.model_copy(update={"data_dir": hanging.path / "data"})

    async def outcome(journal: Journal, name: str) -> tuple[bool, float]:
        started = time.perf_counter()
        try:
            await journal.publish(entry(name))
        except NotDurable:
            return False, time.perf_counter() - started
        return True, time.perf_counter() - started

    async with journal_of(on_disk, connected=False) as journal:
        await journal.publish(entry("spooled"))
        with hanging.hanging():
            waiting = [asyncio.create_task(outcome(journal, "first"))]
            await asyncio.sleep(0.5)
            waiting.append(asyncio.create_task(outcome(journal, "second")))
            await asyncio.sleep(2.5)
            assert not journal.accepts
            assert "has not answered" in journal.reasons()["spool"]
            waiting.append(asyncio.create_task(outcome(journal, "third")))
            await asyncio.sleep(0.1)
            assert [(took, took_s < 2.5) for took, took_s in [task.result() for task in waiting]] == [(False, True)] * 3
            await apply(settings)
            await until(lambda: journal.accepts)
            await journal.publish(entry("past-the-disk"))
        await until(lambda: journal.reasons()["spool"] == "takes events" and is_drained())
    found = await ids_in(settings)
    assert set(found) == {"spooled", "first", "past-the-disk"}  # of the first it was never said that it would be lost


async def test_a_full_spool_refuses_calls_in_time_keeps_room_for_them_and_is_emptied(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(health, "STATE_GRACE_S", 0.0)  # nobody builds a state here
    max_bytes = 200_000
    small = settings.model_copy(update={"spool_max_bytes": max_bytes})
    async with running(small, connected=False) as edge:
        for n in range(250):
            response = await edge.prefetch({"session_id": f"p-{n}"})
            assert (response.status, await response.json()) == (200, EMPTY)
        await until(lambda: metric("ringlog_events_waiting") == 0)
        assert max_bytes * 0.4 < (metric("ringlog_spool_bytes") or 0) <= max_bytes * 0.5
        assert (metric("ringlog_events_dropped_total", topic="calls.prefetch") or 0) > 0
        assert (await ready(edge))[0] == 200

        answers = [await edge.end(call(f"e-{n}", chat="x" * 3000)) for n in range(40)]
        accepted = [response for response in answers if response.status == 200]
        refused = [response for response in answers if response.status == 503]
        assert len(accepted) + len(refused) == 40
        assert len(accepted) > 20
        assert refused
        assert {response.headers["retry-after"] for response in refused} == {"2"}
        assert (await edge.prefetch({"session_id": "s"})).status == 200
        status, said = await ready(edge)
        assert (status, said["ready"], said["spool"]) == (503, False, "full (RINGLOG_SPOOL_MAX_BYTES)")
        assert metric("ringlog_spool_usable") == 0

        await apply(settings)
        await until(is_drained)
        assert (await edge.end(call("afterwards"))).status == 200
        assert (await ready(edge))[0] == 200
        ids = {(await response.json())["event_id"] for response in accepted}
    assert ids <= set(await ids_in(settings))


async def ready(edge: Edge) -> tuple[int, dict[str, object]]:
    response = await edge.ops("GET", "/health/ready")
    return response.status, await response.json()


async def test_on_a_full_disk_the_service_goes_on_with_kafka_and_the_spool_comes_back_by_itself(
    settings: Settings,
) -> None:
    errors = metric("ringlog_spool_errors_total", reason="SpoolFull") or 0
    with small_disk(8) as disk:
        on_disk = settings.model_copy(update={"data_dir": disk.path / "data"})
        async with journal_of(on_disk, connected=False) as journal:
            await journal.publish(entry("before"))
            disk.fill()
            with pytest.raises(NotDurable, match="no room"):
                while True:
                    await journal.publish(entry("fills", size=20_000))
            assert metric("ringlog_spool_errors_total", reason="SpoolFull") == errors + 1
            for _ in range(25):  # it is not ready again and again
                assert (journal.accepts, metric("ringlog_spool_usable")) == (False, 0)
                assert "no room" in journal.reasons()["spool"]
                await asyncio.sleep(0.1)
            await apply(settings)
            await until(is_drained)
            assert journal.accepts
            await journal.publish(entry("with-kafka"))
            disk.free()
            await until(lambda: journal.reasons()["spool"] == "takes events")
    assert {"before", "with-kafka"} <= set(await ids_in(settings))


async def test_on_a_read_only_disk_the_service_starts_and_takes_the_spool_when_it_may_write(
    settings: Settings, topics: tuple[str, ...], hanging: HangingDisk
) -> None:
    on_disk = settings.model_copy(update={"data_dir": hanging.path / "data"})
    (hanging.path / "data").mkdir()
    hanging.remount("ro")
    async with journal_of(on_disk) as journal:
        await until(lambda: "Read-only" in journal.reasons()["spool"])
        assert (journal.accepts, metric("ringlog_spool_usable")) == (True, 0)
        await journal.publish(entry("with-kafka"))
        hanging.remount("rw")
        await until(lambda: metric("ringlog_spool_usable") == 1)
    assert await ids_in(settings) == ["with-kafka"]


async def test_another_process_has_the_spool_until_it_ends(settings: Settings, topics: tuple[str, ...]) -> None:
    lock = SpoolLock(settings.spool_dir)
    async with journal_of(settings) as journal:
        await until(lambda: "each service needs a data directory of its own" in journal.reasons()["spool"])
        assert (journal.accepts, metric("ringlog_spool_usable")) == (True, 0)
        await journal.publish(entry("with-kafka"))
        await asyncio.sleep(1.5)
        assert "each service needs" in journal.reasons()["spool"]
        lock.release()
        await until(lambda: metric("ringlog_spool_usable") == 1)
    assert await ids_in(settings) == ["with-kafka"]


def damage(settings: Settings, nth: int) -> None:
    """One bit of the nth event that lies in the spool's file."""
    file = settings.spool_dir / DATA_FILE
    content = file.read_bytes()
    at = -1
    for _ in range(nth):
        at = content.index(MAGIC, at + 1)
    with file.open("r+b") as opened:
        opened.seek(at + 100)
        opened.write(bytes([content[at + 100] ^ 1]))


@pytest.mark.parametrize("when", ["stopped", "running"])
async def test_a_damaged_spool_is_set_aside_and_what_is_sound_is_published(settings: Settings, when: str) -> None:
    names = [f"{n}" for n in range(20)]
    async with journal_of(settings, connected=False) as journal:
        await asyncio.gather(*(journal.publish(entry(name, size=1000)) for name in names))
        if when == "running":
            damage(settings, 5)
            await apply(settings)
            await until(is_drained)
            await journal.publish(entry("afterwards"))
    if when == "stopped":
        damage(settings, 5)
        await apply(settings)
        async with journal_of(settings) as journal:
            await until(is_drained)
            await journal.publish(entry("afterwards"))
    aside = list(settings.spool_dir.parent.glob("spool.damaged-*"))
    assert len(aside) == 1
    assert (aside[0] / DATA_FILE).exists()
    found = await ids_in(settings)
    assert len(found) == 20  # all but the damaged one, and what came afterwards
    assert [name for name in found if name != "afterwards"] == [name for name in names if name in found]


async def test_who_waits_for_a_silent_kafka_when_the_service_ends_has_an_answer_and_the_next_one_publishes_it(
    settings: Settings, topics: tuple[str, ...]
) -> None:
    async with running(settings) as edge:
        assert (await edge.end(call("first"))).status == 200
        silent(edge.service._journal, settings)
        waiting = [asyncio.create_task(edge.end(call(f"s-{n}"))) for n in range(20)]
        await asyncio.sleep(0.3)
        started = time.perf_counter()
        await edge.stop()
        assert time.perf_counter() - started < 12
        answers = await asyncio.gather(*waiting)
        assert {response.status for response in answers} == {200}
        assert metric("ringlog_events_waiting") == 0
        ids = {(await response.json())["event_id"] for response in answers}
    async with journal_of(settings):
        await until(is_drained)
    assert ids <= set(await ids_in(settings))


async def test_a_connection_that_is_lost_while_a_partition_is_handed_back_leaves_it_to_the_spool(
    settings: Settings, topics: tuple[str, ...]
) -> None:
    """The moment is short, so it is made by hand: the partition is held, and its last commit is awaited."""
    async with journal_of(settings) as journal:
        await journal.publish(entry("0"))
        (lane,) = journal._lanes.values()
        awaited, go_on = asyncio.Event(), asyncio.Event()
        flushed = journal._spooler.flushed

        async def flushed_later() -> None:
            awaited.set()
            await go_on.wait()
            await flushed()

        journal._spooler.flushed = flushed_later  # type: ignore[method-assign]
        journal._open(lane, "opened by hand")
        await awaited.wait()
        journal._connection._lose("lost by hand")
        go_on.set()
        await asyncio.sleep(0.05)
        assert lane.is_open
        await asyncio.gather(*(journal.publish(entry(f"{n}")) for n in range(1, 5)))
        journal._connection._rebuild.set()  # which would come of itself
        await until(is_drained)
        await journal.publish(entry("5"))
    assert await ids_in(settings) == [str(n) for n in range(6)]


@pytest.fixture
def hanging(tmp_path: Path) -> Iterator[HangingDisk]:
    with hanging_disk(tmp_path, 16) as disk:
        yield disk
