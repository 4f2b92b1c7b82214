"""A deliverer on a real broker: nothing is lost, what is away is waited for, and what comes twice is known."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from sqlalchemy import Engine, select, text

from consumers import database
from consumers.contract import Later, Record
from consumers.delivery import delivering
from consumers.parcels import Message
from consumers.positions import load
from consumers.publisher import Publisher
from consumers.reader import REVOKE_GRACE_S
from consumers.runner import Runner
from consumers.tables import positions
from consumers.testing import ended
from runtime.local_kafka import LocalKafka
from runtime.settings import Settings, SettingsError, load_settings
from runtime.topics import check, make_missing
from schemas.topics import CALLS_ENDED, FOREVER_MS, Topic, dead_letters
from tests.tallying import create, opened, read, until

LETTERS = dead_letters("courier")


class Courier:
    """`says` is raised instead of delivering, until it is None."""

    name = "courier"
    topics: tuple[Topic, ...] = (CALLS_ENDED,)
    max_records = 10

    def __init__(self, says: Exception | None = None, pause_s: float = 0.0) -> None:
        self.says = says
        self.tried = 0
        self.delivered: list[str] = []
        self._pause_s = pause_s

    def deliver(self, records: Sequence[Record]) -> None:
        self.tried += 1
        if self.says is not None:
            raise self.says
        time.sleep(self._pause_s)
        self.delivered += [record.header("ce_subject") or "" for record in records]


@pytest.fixture
async def prepared(settings: Settings) -> Settings:
    """Without a topic of dead letters."""
    await create(settings, (CALLS_ENDED,))
    database.migrate(settings)
    return settings


async def publish(settings: Settings, records: Sequence[Record]) -> None:
    publisher = Publisher(settings)
    outcomes = await publisher.publish(
        [
            Message(topic=settings.topic_prefix + it.topic, key=it.key, value=it.value, headers=it.headers)
            for it in records
        ]
    )
    await publisher.stop()
    assert outcomes == [None] * len(records)


@asynccontextmanager
async def running(settings: Settings, courier: Courier, engine: Engine) -> AsyncIterator[Runner]:
    stop, publisher = asyncio.Event(), Publisher(settings)
    runner = Runner(settings, delivering(courier), engine, publisher)
    task = asyncio.create_task(runner.run(stop))
    try:
        yield runner
    finally:
        stop.set()
        async with asyncio.timeout(12):
            await task
            await publisher.stop()


def done(engine: Engine) -> int:
    with engine.connect() as tx:
        return sum(tx.execute(select(positions.c.next_offset)).scalars())


CALLS = [ended(f"session-{n}", caller=f"+1555010{n:04}") for n in range(25)]
SESSIONS = sorted(f"session-{n}" for n in range(25))


async def test_its_dead_letters_are_made_like_ours_and_each_event_is_delivered(prepared: Settings) -> None:
    await publish(prepared, CALLS)
    courier = Courier()
    with opened(prepared) as engine:
        async with running(prepared, courier, engine):
            await until(lambda: done(engine) == 25)
    assert sorted(courier.delivered) == SESSIONS
    assert courier.tried >= 3, "ten at a time"
    (status,) = (await check(prepared, topics=[LETTERS])).topics
    assert status.found is not None
    assert (status.found.config["retention.ms"], status.drifts) == (str(FOREVER_MS), ())


async def test_an_other_side_that_is_away_is_told_by_health_and_gives_up_no_event(prepared: Settings) -> None:
    await publish(prepared, CALLS)
    courier = Courier(says=Later("the courier is at lunch"))
    with opened(prepared) as engine:
        async with running(prepared, courier, engine) as runner:
            await until(lambda: courier.tried > 4)
            ready, said = runner.health()
            assert (ready, said["delivery"], said["delivery_says"]) == (False, "waiting", "the courier is at lunch")
            assert done(engine) == 0
            courier.says = ConnectionRefusedError(111, "Connection refused", "+15550100")
            await until(lambda: "Refused" in runner.health()[1].get("delivery_says", ""))
            assert runner.health()[1]["delivery_says"] == "ConnectionRefusedError: Connection refused"
            courier.says = None
            await until(lambda: done(engine) == 25)
            assert runner.health()[0] and "delivery" not in runner.health()[1]
    assert sorted(courier.delivered) == SESSIONS
    assert await read(prepared, LETTERS) == []


async def test_what_is_delivered_is_not_delivered_again_while_the_database_is_away(prepared: Settings) -> None:
    await publish(prepared, CALLS[:1])
    courier = Courier(pause_s=0.5)
    with opened(prepared) as engine:
        async with running(prepared, courier, engine) as runner:
            await until(lambda: courier.tried == 1)
            with engine.begin() as tx:
                tx.execute(text("ALTER TABLE positions RENAME TO gone"))
            await until(lambda: runner.health()[1]["database"] == "away")
            await asyncio.sleep(1)
            with engine.begin() as tx:
                tx.execute(text("ALTER TABLE gone RENAME TO positions"))
            await until(lambda: done(engine) == 1)
    assert courier.delivered == ["session-0"]


async def test_a_stop_finishes_the_batch_and_its_position(prepared: Settings) -> None:
    await publish(prepared, CALLS)
    courier = Courier(pause_s=1.0)
    with opened(prepared) as engine:
        async with running(prepared, courier, engine):
            await until(lambda: courier.tried == 1)
        assert done(engine) == len(courier.delivered) > 0
        again = Courier()
        async with running(prepared, again, engine):
            await until(lambda: done(engine) == 25)
    assert sorted(courier.delivered + again.delivered) == SESSIONS, "none was lost, and none came twice"


MANY = [ended(f"session-{n}", caller=f"+1555010{n:04}") for n in range(80)]  # longer than a heartbeat


async def test_a_rebalance_would_wait_for_what_is_being_delivered(prepared: Settings) -> None:
    await publish(prepared, CALLS[:1])
    courier = Courier(pause_s=1.0)
    with opened(prepared) as engine:
        async with running(prepared, courier, engine) as runner:
            await until(lambda: courier.tried == 1)
            assert runner._reader is not None
            before = time.monotonic()
            await runner._reader.on_partitions_revoked([])
            assert courier.delivered == ["session-0"] and done(engine) == 1
            assert time.monotonic() - before < REVOKE_GRACE_S


async def test_a_rebalance_waits_for_the_batch_and_none_comes_twice(
    prepared: Settings, new_database: Callable[[], str]
) -> None:
    on_postgres = prepared.model_copy(update={"database_url": new_database()})
    database.migrate(on_postgres)
    await publish(on_postgres, MANY)
    one, two = Courier(pause_s=1.0), Courier(pause_s=0.1)
    with opened(on_postgres) as engine:
        async with running(on_postgres, one, engine):
            await until(lambda: one.tried == 1)
            async with running(on_postgres, two, engine):
                await until(lambda: done(engine) == len(MANY), 60)
        with engine.connect() as tx:
            cluster = tx.execute(select(positions.c.cluster_id).limit(1)).scalar_one()
            assert sum(load(tx, "courier", cluster).values()) == len(MANY)
    assert sorted(one.delivered + two.delivered) == sorted(it.header("ce_subject") or "" for it in MANY)


def test_a_kafka_that_forbids_to_make_the_topic_is_a_sentence(tmp_path: Path) -> None:
    """Everybody but its own administrator may do nothing there."""
    forbidding = {
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "super.users": "User:admin",
        "listener.security.protocol.map": "CONTROLLER:SASL_PLAINTEXT,PLAINTEXT:PLAINTEXT",
        "sasl.mechanism.controller.protocol": "PLAIN",
        "listener.name.controller.sasl.enabled.mechanisms": "PLAIN",
        "listener.name.controller.plain.sasl.jaas.config": (
            "org.apache.kafka.common.security.plain.PlainLoginModule required"
            ' username="admin" password="of-the-test" user_admin="of-the-test";'
        ),
    }
    with LocalKafka(tmp_path / "kafka", properties=forbidding) as kafka:
        settings = load_settings(kafka_bootstrap_servers=kafka.bootstrap_servers, topic_prefix="eu.")
        with pytest.raises(
            SettingsError, match=r"eu\.dead-letters\.courier must be there: .* apply --consumer courier`"
        ):
            asyncio.run(make_missing(settings, [LETTERS]))
