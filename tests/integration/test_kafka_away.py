"""The service while its Kafka is killed, hangs or is not there yet."""

import asyncio
import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from runtime.local_kafka import LocalKafka, LocalKafkaError
from runtime.settings import Settings, load_settings
from runtime.topics import apply
from schemas.event import ENDED, headers_of
from schemas.topics import CALLS_ENDED
from service.journal import Entry, Journal
from service.journal.lane import ACK_DEADLINE_S
from tests.edge import EMPTY, Edge, metric, records_of, running

# Two ends of a connection, a busy machine: what is promised in seconds is asked for in seconds.
SLACK_S = 3.0


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[LocalKafka]:
    """One of its own, to be killed and paused."""
    kafka = LocalKafka(tmp_path / "kafka")
    try:
        kafka.start()
    except LocalKafkaError as error:
        pytest.skip(f"no embedded Kafka: {error}")
    yield kafka
    kafka.stop(0)


@pytest.fixture
async def away(broker: LocalKafka, tmp_path: Path) -> Settings:
    settings = load_settings(
        kafka_bootstrap_servers=broker.bootstrap_servers,
        topic_partitions=2,
        data_dir=tmp_path / "data",
        host="127.0.0.1",
        port=0,
        ops_port=0,
        identity_key="identity-key-of-the-tests",
        webhook_keys={"tests": "webhook-secret-of-the-tests"},
    )
    await apply(settings)
    return settings


async def end(edge: Edge, session_id: str) -> tuple[int, float, str | None]:
    """Status, seconds, event id."""
    started = time.perf_counter()
    response = await edge.end(json.dumps({"session_id": session_id}))
    answer = await response.json()
    if response.status == 503:
        assert response.headers["retry-after"] == "2"
        assert answer["reason"] == "unavailable"
    return response.status, time.perf_counter() - started, answer.get("event_id")


async def prefetch_answers(edge: Edge, *, within_s: float = 1.0) -> None:
    started = time.perf_counter()
    response = await edge.prefetch({"session_id": "s"})
    assert (response.status, await response.json()) == (200, EMPTY)
    assert time.perf_counter() - started < within_s


async def is_accepted_again(edge: Edge, session_id: str, within_s: float) -> str:
    """The id of the event that was accepted."""
    async with asyncio.timeout(within_s):
        while True:
            status, _, event_id = await end(edge, session_id)
            if event_id is not None:
                return event_id
            assert status == 503
            await asyncio.sleep(0.1)


async def ids_in_topic(settings: Settings) -> set[str | None]:
    return {record.header("ce_id") for record in await records_of(settings, CALLS_ENDED)}


async def test_the_service_starts_without_kafka(away: Settings, broker: LocalKafka) -> None:
    broker.kill()
    async with running(away, connected=False) as edge:
        await prefetch_answers(edge)
        status, seconds, _ = await end(edge, "s-1")
        assert (status, seconds < 1.0) == (503, True)
        ready = await edge.ops("GET", "/health/ready")
        assert ready.status == 503
        assert "reached" in (await ready.json())["kafka"]
        await asyncio.to_thread(broker.restart)
        event_id = await is_accepted_again(edge, "s-1", 15)
    assert event_id in await ids_in_topic(away)


@pytest.mark.parametrize("how", ["kill", "pause"])
async def test_when_kafka_goes_nobody_waits_twice_and_nothing_acknowledged_is_lost(
    away: Settings, broker: LocalKafka, how: str
) -> None:
    acknowledged = set()
    async with running(away) as edge:
        for n in range(20):
            acknowledged.add((await end(edge, f"before-{n}"))[2])
        assert None not in acknowledged

        getattr(broker, how)()
        answers = await asyncio.gather(*(end(edge, f"while-{n}") for n in range(50)))
        assert {status for status, _, _ in answers} == {503}
        assert max(seconds for _, seconds, _ in answers) < ACK_DEADLINE_S + SLACK_S
        status, seconds, _ = await end(edge, "then")
        assert (status, seconds < 1.0) == (503, True)
        await prefetch_answers(edge)
        assert metric("ringlog_kafka_connected") == 0

        await asyncio.to_thread(broker.restart if how == "kill" else broker.resume)
        acknowledged.add(await is_accepted_again(edge, "after", 30))
        answers = await asyncio.gather(*(end(edge, f"while-{n}") for n in range(50)))
        assert {status for status, _, _ in answers} == {200}
        acknowledged |= {event_id for _, _, event_id in answers}
        assert metric("ringlog_events_waiting") == 0
    assert acknowledged <= await ids_in_topic(away)


async def test_calls_that_come_while_kafka_comes_and_goes_are_in_the_topic_or_refused(
    away: Settings, broker: LocalKafka
) -> None:
    acknowledged = set()
    over = asyncio.Event()

    async def keep_calling(edge: Edge, name: int) -> None:
        n = 0
        while not over.is_set():
            n += 1
            status, _, event_id = await end(edge, f"{name}-{n}")
            assert status in (200, 503)
            if event_id:
                acknowledged.add(event_id)
            await asyncio.sleep(0.01)  # a broker that starts needs the processor, too

    async with running(away) as edge:
        calling = [asyncio.create_task(keep_calling(edge, name)) for name in range(4)]
        for n in range(2):
            await asyncio.sleep(0.5)
            await asyncio.to_thread(broker.restart)
            await is_accepted_again(edge, f"again-{n}", 40)
        over.set()
        await asyncio.gather(*calling)
        assert metric("ringlog_events_waiting") == 0
    assert len(acknowledged) > 20
    assert acknowledged <= await ids_in_topic(away)


@pytest.mark.parametrize("how", ["kill", "pause"])
@pytest.mark.parametrize("when", ["before", "while"])
async def test_the_service_stops_in_time_and_leaves_nothing_behind(
    away: Settings, broker: LocalKafka, how: str, when: str
) -> None:
    if when == "before":
        getattr(broker, how)()
    async with running(away, connected=when == "while") as edge:
        waiting = []
        if when == "while":
            getattr(broker, how)()
            waiting = [asyncio.create_task(end(edge, f"s-{n}")) for n in range(10)]
            await asyncio.sleep(0.2)
        else:
            await asyncio.sleep(1.0)  # in the middle of connecting
        started = time.perf_counter()
        await edge.stop()
        assert time.perf_counter() - started < 12
        assert {status for status, _, _ in await asyncio.gather(*waiting)} <= {503}
        await asyncio.sleep(0.1)
        ours = [task for task in asyncio.all_tasks() if "kafka" in repr(task) and "test_kafka_away" not in repr(task)]
        assert ours == []
    assert metric("ringlog_events_waiting") == 0
    if how == "pause":
        broker.resume()


async def test_one_who_leaves_takes_nothing_from_the_others_in_the_batch(away: Settings, broker: LocalKafka) -> None:
    journal, stop = Journal(away), asyncio.Event()
    running_journal = asyncio.create_task(journal.run((CALLS_ENDED,), stop))
    async with asyncio.timeout(10):
        while not journal.connected:  # noqa: ASYNC110 - the journal tells nobody
            await asyncio.sleep(0.01)

    def publish(name: str) -> "asyncio.Task[None]":
        entry = Entry(CALLS_ENDED, b"caller", b"caller", b"{}", headers_of(ENDED, name, 1))
        return asyncio.create_task(journal.publish(entry))

    await publish("first")
    broker.pause()
    leaving, staying = publish("leaving"), publish("staying")
    await asyncio.sleep(0.3)
    leaving.cancel()
    await asyncio.sleep(0.1)
    broker.resume()
    await staying
    assert leaving.cancelled()
    stop.set()
    await running_journal
    assert metric("ringlog_events_waiting") == 0
    assert {"first", "staying"} <= await ids_in_topic(away)
