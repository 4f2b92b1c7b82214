"""The journal when Kafka refuses, and when the producer can't be trusted."""

import asyncio
import time
from collections import Counter
from collections.abc import Callable

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.structs import TopicPartition

from runtime.kafka import make_admin, start_within, stop_within
from runtime.settings import Settings
from runtime.topics import apply
from schemas.topics import CALLS_ENDED, CALLS_REJECTED, Topic
from service.journal import Journal, drainer
from service.journal.lane import ACK_DEADLINE_S
from tests.edge import call, metric, running
from tests.journaling import SLACK_S, entry, ids_in, is_drained, journal_of, silent, until


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
