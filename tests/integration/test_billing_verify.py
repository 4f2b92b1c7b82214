"""`ringlog billing verify`: a real log, a real billing, and ledgers of which somebody has changed something."""

import asyncio
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace
from sqlalchemy import Engine, delete, insert, select, update
from typer.testing import CliRunner, Result

from cli.billing import app
from consumers import database, ledger_audit
from consumers.billing import Billing
from consumers.ledger_audit import Interrupted, audit
from consumers.outbox import OutboxRelay
from consumers.plans import load_plans
from consumers.publisher import Publisher
from consumers.runner import Runner
from consumers.tables import billing_entries, dead_letters, plan_charges, positions
from runtime.kafka import make_producer, start_within, stop_within
from runtime.settings import Settings
from schemas.caller import Caller
from schemas.event import Record
from schemas.topics import BILLING_CHARGES, CALLS_ENDED
from schemas.topics import dead_letters as dead_letters_of
from tests.ended_calls import ended
from tests.logging_restored import logs_restored
from tests.tallying import create, until

TOPICS = (CALLS_ENDED, BILLING_CHARGES, dead_letters_of("billing"))

PLANS = """
default = "standard"
[plans.standard]
currency = "USD"
versions = [{ valid_from = 2026-01-01, per_minute = "0.12" }]
"""


def call(session: str, at: int, credit: Any, **options: Any) -> Record:
    breakdown = [{"type": "llm", "provider": "openai", "credit": credit}]
    return ended(session, at, {"cost_breakdown": breakdown, "duration": 30, "ts": 1_780_000_000 + at}, **options)


class Scene:
    """Kafka, a database, a billing, and the command."""

    def __init__(self, settings: Settings, engine: Engine) -> None:
        self.settings = settings
        self.engine = engine

    async def publish(self, records: Sequence[Record]) -> None:
        """Each to the partition of its record, in this order."""
        producer = make_producer(self.settings)
        await start_within(producer)
        topic = CALLS_ENDED.named(self.settings.topic_prefix)
        sent = [
            await producer.send(topic, it.value, key=it.key, partition=it.partition, headers=list(it.headers))
            for it in records
        ]
        await asyncio.gather(*sent)
        await stop_within(producer)

    async def consume(self, events: int, meanwhile: Callable[[], Any] | None = None) -> Any:
        """Until billing is through so many events in all. Returns what `meanwhile` returns."""
        stop, publisher = asyncio.Event(), Publisher(self.settings)
        relay = OutboxRelay(self.settings, "billing", self.engine, publisher)
        billing = Billing(load_plans(self.settings))
        runner = Runner(self.settings, billing, self.engine, publisher, committed=relay.wake)
        tasks = [asyncio.create_task(runner.run(stop)), asyncio.create_task(relay.run(stop))]
        found = await meanwhile() if meanwhile else None
        await until(lambda: sum(self.column(positions.c.next_offset)) == events)
        stop.set()
        await asyncio.gather(*tasks)
        await publisher.stop()
        return found

    def column(self, column: Any) -> list[Any]:
        with self.engine.connect() as tx:
            return list(tx.execute(select(column)).scalars())

    def change(self, statement: Any) -> None:
        with self.engine.begin() as tx:
            tx.execute(statement)

    def verify(self, *options: str, code: int = 0) -> Result:
        named = {
            "KAFKA_BOOTSTRAP_SERVERS": self.settings.bootstrap_servers,
            "TOPIC_PREFIX": self.settings.topic_prefix,
            "DATABASE_URL": self.settings.database,
            "DATA_DIR": str(self.settings.data_dir),
        }
        env = {"COLUMNS": "200", **{f"RINGLOG_{name}": value for name, value in named.items()}}
        with logs_restored():
            result = CliRunner().invoke(app, ["verify", *options], env=env)
        assert "Traceback" not in result.stderr
        assert result.exit_code == code, (result.output, result.exception)
        return result

    def differences(self) -> dict[str, str]:
        """By session."""
        said = json.loads(self.verify("--json", code=1).stdout)
        assert said["different"] == len(said["differences"])
        return {it["session_id"]: it["what"] for it in said["differences"]}


@pytest.fixture
def scene(settings: Settings, database_url: str, tmp_path: Path) -> Iterator[Scene]:
    (tmp_path / "plans.toml").write_text(PLANS)
    own = settings.model_copy(update={"database_url": database_url, "billing_plans": tmp_path / "plans.toml"})
    asyncio.run(create(own, TOPICS))
    database.migrate(own)
    engine = database.open_engine(own)
    yield Scene(own, engine)
    engine.dispose()


def in_partition(record: Record, partition: int) -> Record:
    return replace(record, partition=partition)


# Duplicates, a revision in another partition than the first body, one that came late, and one that says nothing.
HISTORY = [
    call("-a", 1, 1),
    call("b", 2, 2),
    call("b", 2, 2),
    in_partition(call("b", 9, "2.5", caller=Caller("other", "session")), 1),
    call("c", 5, 5),
    in_partition(call("c", 4, 4), 1),
    ended("d", 6, {}),
    ended("-a", 7, {"duration": 31}),
]


def test_the_ledger_agrees_with_the_log_or_it_is_said_where_it_does_not(scene: Scene) -> None:
    asyncio.run(scene.publish(HISTORY))
    asyncio.run(scene.consume(8))
    said = scene.verify().stdout.splitlines()
    assert said == ["8 events of 4 calls were read from the log.", "The ledger agrees with the log."]

    entry, charge = billing_entries.c, plan_charges.c
    scene.change(update(billing_entries).where(entry.session_id == "-a").values(amount_micros=999_999))
    scene.change(delete(billing_entries).where(entry.session_id == "b", entry.kind == "adjustment"))
    scene.change(update(billing_entries).where(entry.session_id == "c").values(caller_id="somebody"))
    scene.change(update(plan_charges).where(charge.session_id == "d").values(state="final", amount_micros=0))
    with scene.engine.connect() as tx:
        row = dict(tx.execute(select(billing_entries).where(entry.session_id == "-a")).mappings().one())
    scene.change(insert(billing_entries).values(**row | {"session_id": "invented"}))
    found = scene.differences()
    assert found == {
        "-a": "the entries add up to 0.999999, and the log says 1",
        "b": "the entries add up to 2, and the log says 2.5",
        "c": found["c"],
        "d": "the plan charge is another: state is 'final' and should be 'provisional',"
        " amount_micros is 0 and should be None",
        "invented": "billing_entries has it, and the log has no call of that session",
    }
    assert "for llm by openai is another: caller_id is 'somebody' and should be 'c0ffee'" in found["c"]
    said = scene.verify(code=1).stdout.splitlines()
    assert "-a: the entries add up to 0.999999, and the log says 1." in said
    assert said[-1] == "The ledger differs from the log in 5 places."


def test_what_billing_has_not_read_is_not_compared(scene: Scene) -> None:
    asyncio.run(scene.publish(HISTORY))
    said = scene.verify().stdout
    assert "8 events were not compared: billing has not read them yet." in said
    asyncio.run(scene.consume(8))
    asyncio.run(scene.publish([call("-a", 20, 7), in_partition(call("new", 21, 7), 1)]))
    said = json.loads(scene.verify("--json").stdout)
    assert (said["events"], said["unread"], said["different"]) == (8, 2, 0)


def test_a_stop_ends_it_without_a_verdict(scene: Scene) -> None:
    asyncio.run(scene.publish(HISTORY))
    asyncio.run(scene.consume(8))
    stop = asyncio.Event()
    stop.set()
    with pytest.raises(Interrupted):
        asyncio.run(audit(scene.settings, scene.engine, stop, lambda *_: None))


@pytest.mark.parametrize("credit", [b"1e308", b"9" * 1000], ids=["1e308", "a thousand digits"])
def test_a_cost_that_is_no_money_is_a_dead_letter_and_spoils_nothing(scene: Scene, credit: bytes) -> None:
    poison = ended("poison", 3, b'{"cost_breakdown": [{"type": "llm", "credit": %s}], "duration": 5}' % credit)
    spoilt = ended("b", 30, b'{"cost_breakdown": [{"type": "llm", "credit": %s}], "duration": 5}' % credit)
    asyncio.run(scene.publish([*HISTORY[:2], poison, spoilt, *HISTORY[2:]]))
    asyncio.run(scene.consume(10))
    assert scene.column(dead_letters.c.session_id) == ["poison", "b"]
    with scene.engine.connect() as tx:
        entries = tx.execute(select(billing_entries.c.session_id, billing_entries.c.amount_micros)).all()
        charges = tx.execute(select(plan_charges.c.session_id, plan_charges.c.amount_micros)).all()
    assert sorted(tuple(row) for row in entries) == [
        ("-a", 1_000_000),
        ("b", 500_000),
        ("b", 2_000_000),
        ("c", 1_000_000),
        ("c", 4_000_000),
    ]
    assert sorted(tuple(row) for row in charges if row[0] != "d") == [("-a", 62_000), ("b", 60_000), ("c", 60_000)]
    said = scene.verify().stdout.splitlines()
    assert said[1:] == [
        "2 events can't be read as a bill: `ringlog dead-letters list billing` has them.",
        "The ledger agrees with the log.",
    ]


def test_what_lies_in_the_dead_letters_is_no_difference_until_it_is_redriven(scene: Scene) -> None:
    asyncio.run(scene.publish(HISTORY))
    asyncio.run(scene.consume(8))
    scene.change(delete(billing_entries).where(billing_entries.c.session_id == "b"))
    place = {
        "consumer": "billing",
        "topic": CALLS_ENDED.named(scene.settings.topic_prefix),
        "partition": 0,
        "offset": 1,
    }
    letter = {"letter_partition": 0, "letter_offset": 0, "session_id": "b", "error": "KeyError"}
    scene.change(insert(dead_letters).values(**place, **letter, given_up_at=1, handled=8))
    assert "1 more differ because an event of theirs lies in the dead letters." in scene.verify().stdout
    scene.change(update(dead_letters).values(outcome="redriven"))
    assert scene.differences() == {"b": "the entries add up to 0, and the log says 2.5"}


@pytest.mark.parametrize("small_rest", [10, 10**9], ids=["followed", "at once"])
def test_a_ledger_that_grows_meanwhile_is_compared_as_it_is_at_one_moment(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, small_rest: int
) -> None:
    """Whether it goes round for as long as there is something to follow, or reads all the rest beside the snapshot."""
    monkeypatch.setattr(ledger_audit, "SMALL_REST", small_rest)
    records = [in_partition(call(f"s{n % 500}", n, n % 7), n % 2) for n in range(4_000)]
    asyncio.run(scene.publish(records))

    async def meanwhile() -> list[Any]:
        await until(lambda: any(scene.column(positions.c.next_offset)))
        never = asyncio.Event()
        return [await audit(scene.settings, scene.engine, never, lambda *_: None) for _ in range(3)]

    found = asyncio.run(scene.consume(4_000, meanwhile))
    assert [(it.different, it.differences) for it in found] == [(0, [])] * 3
    assert all(it.events + it.unread == 4_000 for it in found)


def test_a_topic_that_was_made_anew_is_no_log_of_this_ledger(scene: Scene) -> None:
    asyncio.run(scene.publish(HISTORY))
    asyncio.run(scene.consume(8))
    scene.change(update(positions).values(next_offset=1000))
    assert "but the topic ends at" in scene.verify(code=1).stderr
    scene.change(update(positions).values(next_offset=1, cluster_id="another"))
    assert "in the Kafka cluster another" in scene.verify(code=1).stderr
