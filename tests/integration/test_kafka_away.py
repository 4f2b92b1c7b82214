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
from service import health
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


async def spool_is_empty(within_s: float = 40.0) -> None:
    """And no lane is open any more: what comes now goes to Kafka."""
    async with asyncio.timeout(within_s):
        while metric("ringlog_spool_events") or metric("ringlog_lanes_open"):  # noqa: ASYNC110
            await asyncio.sleep(0.05)


async def ids_in_topic(settings: Settings) -> set[str | None]:
    return {record.header("ce_id") for record in await records_of(settings, CALLS_ENDED)}


async def test_the_service_starts_without_kafka_and_spools_until_it_is_there(
    away: Settings, broker: LocalKafka, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(health, "STATE_GRACE_S", 0.0)  # nobody builds a state here
    broker.kill()
    async with running(away, connected=False) as edge:
        await prefetch_answers(edge)
        status, seconds, event_id = await end(edge, "s-1")
        assert (status, seconds < 1.0) == (200, True)
        ready = await edge.ops("GET", "/health/ready")
        said = await ready.json()
        assert (ready.status, said["spool"], said["spool_events"] >= 1) == (200, "takes events", True)
        assert "reached" in said["kafka"]
        await asyncio.to_thread(broker.restart)
        await spool_is_empty()
    assert event_id in await ids_in_topic(away)


async def test_without_a_spool_a_call_is_refused_while_kafka_is_away(away: Settings, broker: LocalKafka) -> None:
    broker.kill()
    without = away.model_copy(update={"spool_max_bytes": 0})
    async with running(without, connected=False) as edge:
        await prefetch_answers(edge)
        assert (await end(edge, "s-1"))[0] == 503
        ready = await edge.ops("GET", "/health/ready")
        assert (ready.status, "RINGLOG_SPOOL_MAX_BYTES" in (await ready.json())["spool"]) == (503, True)


@pytest.mark.parametrize("how", ["kill", "pause"])
async def test_when_kafka_goes_nobody_waits_twice_and_nothing_is_refused_or_lost(
    away: Settings, broker: LocalKafka, how: str
) -> None:
    accepted = set()
    async with running(away) as edge:
        for n in range(20):
            accepted.add((await end(edge, f"before-{n}"))[2])

        getattr(broker, how)()
        answers = await asyncio.gather(*(end(edge, f"while-{n}") for n in range(50)))
        assert {status for status, _, _ in answers} == {200}
        assert max(seconds for _, seconds, _ in answers) < ACK_DEADLINE_S + SLACK_S
        accepted |= {event_id for _, _, event_id in answers}
        answers = await asyncio.gather(*(end(edge, f"then-{n}") for n in range(50)))
        assert {status for status, _, _ in answers} == {200}
        assert max(seconds for _, seconds, _ in answers) < 1.5  # the breaker is open: no deadline is waited for
        accepted |= {event_id for _, _, event_id in answers}
        await prefetch_answers(edge)

        await asyncio.to_thread(broker.restart if how == "kill" else broker.resume)
        await spool_is_empty()
        spooled = metric("ringlog_spooled_total", topic="calls.ended")
        answers = await asyncio.gather(*(end(edge, f"after-{n}") for n in range(50)))
        assert {status for status, _, _ in answers} == {200}
        accepted |= {event_id for _, _, event_id in answers}
        assert metric("ringlog_spooled_total", topic="calls.ended") == spooled
        assert metric("ringlog_events_waiting") == 0
    assert None not in accepted
    assert len(accepted) == 170
    assert accepted <= await ids_in_topic(away)


async def test_the_calls_of_a_partition_keep_their_order_through_an_outage(away: Settings, broker: LocalKafka) -> None:
    ids = []
    async with running(away) as edge:

        async def call_for(seconds: float) -> None:
            until = time.monotonic() + seconds
            while time.monotonic() < until:
                ids.append((await end(edge, f"s-{len(ids)}"))[2])

        await call_for(0.3)
        broker.pause()
        await call_for(ACK_DEADLINE_S + 2)
        broker.resume()
        await call_for(3)
        await spool_is_empty()
        await call_for(0.3)
    for partition in range(2):
        found = [r.header("ce_id") for r in await records_of(away, CALLS_ENDED) if r.partition == partition]
        first_seen = list(dict.fromkeys(found))
        assert first_seen == [id_ for id_ in ids if id_ in set(first_seen)]
    assert set(ids) <= await ids_in_topic(away)


async def test_what_is_spooled_outlives_the_service(away: Settings, broker: LocalKafka) -> None:
    broker.kill()
    async with running(away, connected=False) as edge:
        ids = {(await end(edge, f"s-{n}"))[2] for n in range(30)}
    await asyncio.to_thread(broker.restart)
    async with running(away):
        await spool_is_empty()
    assert None not in ids
    assert ids <= await ids_in_topic(away)


async def test_calls_that_come_while_kafka_comes_and_goes_are_all_in_the_topic(
    away: Settings, broker: LocalKafka
) -> None:
    accepted = set()
    over = asyncio.Event()

    async def keep_calling(edge: Edge, name: int) -> None:
        n = 0
        while not over.is_set():
            n += 1
            status, _, event_id = await end(edge, f"{name}-{n}")
            assert status == 200
            accepted.add(event_id)
            await asyncio.sleep(0.01)  # a broker that starts needs the processor, too

    async with running(away) as edge:
        calling = [asyncio.create_task(keep_calling(edge, name)) for name in range(4)]
        for _ in range(2):
            await asyncio.sleep(0.5)
            await asyncio.to_thread(broker.restart)
            await asyncio.sleep(3)
        over.set()
        await asyncio.gather(*calling)
        await spool_is_empty()
        assert metric("ringlog_events_waiting") == 0
    assert len(accepted) > 20
    assert accepted <= await ids_in_topic(away)


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
        assert {status for status, _, _ in await asyncio.gather(*waiting)} <= {200}
        await asyncio.sleep(0.1)
        ours = [task for task in asyncio.all_tasks() if "kafka" in repr(task) and "test_kafka_away" not in repr(task)]
        assert ours == []
    assert metric("ringlog_events_waiting") == 0
    if how == "pause":
        broker.resume()


async def test_one_who_leaves_takes_nothing_from_the_others_in_the_batch(away: Settings, broker: LocalKafka) -> None:
    journal, stop = Journal(away, (CALLS_ENDED,)), asyncio.Event()
    running_journal = asyncio.create_task(journal.run(stop))
    async with asyncio.timeout(10):
        while not journal.is_connected:  # noqa: ASYNC110 - the journal tells nobody
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
