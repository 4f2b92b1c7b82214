"""`ringlog dead-letters` as a user runs it, after a billing that could not handle some of its events."""

import asyncio
import hashlib
import json
import os
import pty
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer
from sqlalchemy import Connection, Engine, select
from typer.testing import CliRunner, Result

from cli.dead_letters import app
from consumers import database, letter_book, redrive
from consumers.billing import Billing
from consumers.outbox import OutboxRelay
from consumers.process import CONSUMERS
from consumers.publisher import Publisher
from consumers.redrive import Redrive
from consumers.runner import Runner
from consumers.tables import billing_entries, outbox, positions
from runtime.kafka import connection, make_admin, make_producer, start_within
from runtime.settings import Settings
from schemas.event import Record
from schemas.topics import BILLING_CHARGES, CALLS_ENDED, MAX_MESSAGE_BYTES, Topic, dead_letters
from tests import tally
from tests.command import environment as variables
from tests.ended_calls import ended
from tests.integration.test_serve_command import ROOT
from tests.logging_restored import logs_restored
from tests.tallying import create, opened, read, until

TOPICS = (CALLS_ENDED, BILLING_CHARGES, dead_letters("billing"))
YEAR_US = 365 * 86_400 * 1_000_000


def cost(credit: str) -> dict[str, Any]:
    return {"cost_breakdown": [{"type": "llm", "provider": "openai", "credit": float(credit)}]}


class Broken(Billing):
    """A billing of a version that could not handle some sessions."""

    def handle(self, tx: Connection, records: Any) -> None:
        super().handle(tx, records)
        if any((record.header("ce_subject") or "").startswith("odd") for record in records):
            raise KeyError("an unknown kind of cost, of +15550100")


class Scene:
    """Kafka, a database, and the command."""

    def __init__(self, settings: Settings, engine: Engine) -> None:
        self.settings = settings
        self.engine = engine

    def __call__(self, *arguments: str, code: int = 0, **environment: str) -> Result:
        named = {
            "KAFKA_BOOTSTRAP_SERVERS": self.settings.bootstrap_servers,
            "TOPIC_PREFIX": self.settings.topic_prefix,
            "DATABASE_URL": self.settings.database,
            "DATA_DIR": str(self.settings.data_dir),
            **environment,
        }
        env = {"COLUMNS": "200", **{f"RINGLOG_{name}": value for name, value in named.items()}}
        with logs_restored():
            result = CliRunner().invoke(app, arguments, env=env)
        assert "Traceback" not in result.stderr
        assert result.exit_code == code, result.output
        return result

    def json(self, *arguments: str, code: int = 0) -> Any:
        return json.loads(self(*arguments, "--json", code=code).stdout)

    def at_a_terminal(self, answer: str, *arguments: str) -> tuple[int, str]:
        """The exit code, and all that is said to somebody who answers so."""
        ours, theirs = pty.openpty()
        os.write(ours, answer.encode())
        done = subprocess.run(
            [sys.executable, "-m", "cli.main", "dead-letters", *arguments],
            env={**os.environ, **variables(self.settings)},
            cwd=ROOT,
            stdin=theirs,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        os.close(ours)
        os.close(theirs)
        return done.returncode, done.stdout

    def publish(self, records: list[Record]) -> None:
        async def publish() -> None:
            producer = make_producer(self.settings)
            await start_within(producer)
            topic = CALLS_ENDED.named(self.settings.topic_prefix)
            for it in records:
                await producer.send_and_wait(topic, it.value, key=it.key, partition=0, headers=list(it.headers))
            await producer.stop()

        asyncio.run(publish())

    def consume(self, consumer: Billing, events: int) -> None:
        """Until it is through so many events, and they are told."""

        async def consume() -> None:
            stop, publisher = asyncio.Event(), Publisher(self.settings)
            relay = OutboxRelay(self.settings, "billing", self.engine, publisher)
            runner = Runner(self.settings, consumer, self.engine, publisher, committed=relay.wake)
            tasks = [asyncio.create_task(runner.run(stop)), asyncio.create_task(relay.run(stop))]
            await until(lambda: sum(self.column(positions.c.next_offset)) == events and not self.column(outbox.c.id))
            stop.set()
            await asyncio.gather(*tasks)
            await publisher.stop()

        asyncio.run(consume())

    def column(self, column: Any) -> list[Any]:
        with self.engine.connect() as tx:
            return list(tx.execute(select(column)).scalars())

    def books(self) -> list[tuple[Any, ...]]:
        with self.engine.connect() as tx:
            return sorted(tuple(row) for row in tx.execute(select(billing_entries)))


@pytest.fixture
def on(settings: Settings) -> Any:
    """Makes a scene on a database, with its topics and tables."""
    engines: list[Engine] = []

    def make(url: str | None) -> Scene:
        own = settings.model_copy(update={"database_url": url})
        asyncio.run(create(own, TOPICS))
        database.migrate(own)
        engines.append(database.open_engine(own))
        return Scene(own, engines[0])

    yield make
    for engine in engines:
        engine.dispose()


# Two revisions of one call. By their own clock the first is the later one, but nobody believes a clock that is ahead of
# the broker's: the second counts, because it was appended later.
ODD = [
    ended("odd-1", 2 * YEAR_US, cost("0.004")),
    ended("odd-1", YEAR_US, cost("0.007")),
    ended("odd-2", 1, cost("0.5")),
]
EVENTS = [ended("even-1", 0, cost("0.1")), *ODD, ended("even-2", 2, cost("0.2")), ended("odd-2", 1, cost("0.5"))]


def test_redriven_events_leave_the_books_as_if_nothing_had_failed(
    on: Callable[[str], Scene], database_url: str, new_database: Callable[[], str]
) -> None:
    ringlog = on(database_url)
    ringlog.publish(EVENTS)
    ringlog.consume(Broken(), 6)
    assert [row[0] for row in ringlog.books()] == ["even-1", "even-2"]

    listed = ringlog.json("list", "billing")
    topic = CALLS_ENDED.named(ringlog.settings.topic_prefix)
    assert [it["place"] for it in listed] == [f"{topic}/0/{offset}" for offset in (1, 2, 3, 5)]
    assert {it["error"] for it in listed} == {"KeyError"}
    assert [it["session_id"] for it in listed] == ["odd-1", "odd-1", "odd-2", "odd-2"]
    assert ringlog.json("list", "billing", "--session=odd-2", "--since", "1h", "--error", "KeyError") == listed[2:]
    assert ringlog.json("list", "billing", "--error", "TypeError") == []
    assert ringlog.json("list", "billing", "--since", "2999-01-01") == []
    human = ringlog("list", "billing")
    assert "calls.ended/0/3" in human.stdout and "4 KeyError" in human.stderr

    failing = pytest.MonkeyPatch()
    failing.setitem(CONSUMERS, "billing", lambda *_: (Broken(), []))
    again = ringlog("redrive", "billing", "0/3", code=1)
    assert f"{topic}/0/3 failed again: KeyError (test_dead_letters_command.py:" in again.stderr
    assert "15550100" not in again.output
    assert ringlog.json("redrive", "billing", "--all", code=1)["redriven"] == 0
    failing.undo()
    assert ringlog.json("list", "billing") == listed, "what fails again stays where it is"
    assert len(ringlog.books()) == 2

    assert ringlog.json("redrive", "billing", "0/2")["redriven"] == 1
    assert "0 redriven, 1 redriven before." in ringlog("redrive", "billing", f"{topic}/0/2").stdout
    assert ringlog.json("redrive", "billing", listed[2]["event_id"])["redriven"] == 2, "it lies there twice"
    everything = ringlog("redrive", "billing", "--all")
    assert "1 redriven." in everything.stdout
    assert "derived events wait for a running `ringlog consume billing`" in everything.stderr
    assert ringlog.json("redrive", "billing", "--all") == {"redriven": 0, "already": 0, "failed": [], "stopped": False}
    assert ringlog.json("list", "billing") == []
    assert {it["outcome"] for it in ringlog.json("list", "billing", "--all")} == {"redriven"}

    ringlog.consume(Billing(), 6)
    told = asyncio.run(read(ringlog.settings, BILLING_CHARGES))
    assert sorted({json.loads(it.value)["session_id"] for it in told}) == ["even-1", "even-2", "odd-1", "odd-2"]
    anew = ringlog.settings.model_copy(update={"database_url": new_database()})
    database.migrate(anew)
    with opened(anew) as engine:
        rebuilt = Scene(anew, engine)
        rebuilt.consume(Billing(), 6)
        assert rebuilt.books() == ringlog.books()


def large(size: int) -> Record:
    """An odd call that has so many bytes."""
    small = ended("odd-1", 1, cost("0.5") | {"note": ""})
    return ended("odd-1", 1, cost("0.5") | {"note": "x" * (size - len(small.value or b""))})


def test_the_largest_event_that_the_service_writes_has_its_letter_whole(on: Callable[[None], Scene]) -> None:
    ringlog = on(None)
    event = large(ringlog.settings.max_request_bytes - 400)
    ringlog.publish([event, ended("even-1", 2, cost("0.2"))])
    ringlog.consume(Broken(), 2)
    (letter,) = asyncio.run(read(ringlog.settings, dead_letters("billing")))
    assert letter.value == event.value
    headers = sum(len(name) + len(value) for name, value in letter.headers)
    assert len(letter.value) + headers > ringlog.settings.max_request_bytes
    assert ringlog.json("redrive", "billing", "--all")["redriven"] == 1
    assert [row[0] for row in ringlog.books()] == ["even-1", "odd-1"]


def test_an_event_that_no_letter_can_hold_leaves_its_head_and_is_redriven_from_its_topic(
    on: Callable[[None], Scene],
) -> None:
    """Another program has compressed it: a topic's limit says how large it may be then."""
    ringlog = on(None)
    event = large(MAX_MESSAGE_BYTES + 1000)
    ringlog.publish([ODD[0]])
    asyncio.run(publish_compressed(ringlog.settings, event))
    ringlog.publish([ended("even-1", 2, cost("0.2"))])
    ringlog.consume(Broken(), 3)
    assert [row[0] for row in ringlog.books()] == ["even-1"], "the partition goes on"

    whole, head = asyncio.run(read(ringlog.settings, dead_letters("billing")))
    assert whole.value == ODD[0].value
    value = event.value or b""
    assert (head.key, head.value) == (event.key, value[: 64 * 1024])
    assert head.headers[: len(event.headers)] == tuple(event.headers)
    assert dict(head.headers)["dead_letter_bytes"] == b"%d" % len(value)
    assert dict(head.headers)["dead_letter_sha256"] == hashlib.sha256(value).hexdigest().encode()

    assert ringlog.json("show", "billing", "0/1")["body"] == value.decode()
    assert ringlog.json("redrive", "billing", "--all")["redriven"] == 2
    assert {row[0] for row in ringlog.books()} == {"even-1", "odd-1"}


def test_a_head_is_not_redriven_for_its_event(on: Callable[[None], Scene]) -> None:
    """Its topic was made anew, and something else lies there."""
    ringlog = on(None)
    asyncio.run(publish_compressed(ringlog.settings, large(MAX_MESSAGE_BYTES + 1000)))
    ringlog.consume(Broken(), 1)
    asyncio.run(made_anew(ringlog.settings, CALLS_ENDED))
    assert "0/0 failed again: LetterNotFound" in ringlog("redrive", "billing", "--all", code=1).stderr
    ringlog.publish([ODD[0]])
    assert "0/0 failed again: LetterNotFound" in ringlog("redrive", "billing", "--all", code=1).stderr
    assert ringlog.books() == []


async def publish_compressed(settings: Settings, event: Record) -> None:
    producer = AIOKafkaProducer(**connection(settings), compression_type="zstd", max_request_size=2**30)
    await start_within(producer)
    topic, headers = CALLS_ENDED.named(settings.topic_prefix), list(event.headers)
    await producer.send_and_wait(topic, event.value, key=event.key, partition=0, headers=headers)
    await producer.stop()


async def made_anew(settings: Settings, topic: Topic) -> None:
    admin = make_admin(settings)
    await start_within(admin)
    await admin.delete_topics([topic.named(settings.topic_prefix)])
    await admin.close()
    await asyncio.sleep(1)  # the broker deletes in its own time
    await create(settings, (topic,))


def test_show_and_discard(on: Callable[[None], Scene]) -> None:
    ringlog = on(None)
    ringlog.publish(EVENTS)
    ringlog.consume(Broken(), 6)
    shown = ringlog.json("show", "billing", "0/3")
    assert shown["message"] == "'an unknown kind of cost, of +15550100'"
    assert [name for name, _ in shown["headers"]] == [name for name, _ in ODD[2].headers]
    assert shown["body"] == (ODD[2].value or b"").decode()
    assert (shown["key"], shown["session_id"], shown["outcome"]) == ("c0ffee", "odd-2", None)
    human = ringlog("show", "billing", "0/3").stdout
    assert "KeyError: 'an unknown kind of cost" in human and "ce_subject: odd-2" in human and '"credit": 0.5' in human
    twice = ringlog("show", "billing", shown["event_id"], code=1)
    assert "There are 2 dead letters of" in twice.stderr

    assert ringlog.json("discard", "billing", "0/3", "0/5") == {"discarded": 2, "already": 0}
    assert ringlog.json("discard", "billing", "0/3") == {"discarded": 0, "already": 1}
    assert len(ringlog.json("list", "billing")) == 2
    assert "discarded" in ringlog("list", "billing", "--all").stdout
    ringlog("redrive", "billing", "--session=odd-2")
    assert "odd-2" not in [row[0] for row in ringlog.books()], "what was discarded is redriven by its name only"
    assert ringlog.json("redrive", "billing", "0/3")["redriven"] == 1
    assert "odd-2" in [row[0] for row in ringlog.books()]
    assert ringlog.json("discard", "billing", "0/3") == {"discarded": 0, "already": 1}


def test_what_is_not_named_is_discarded_when_somebody_agrees(on: Callable[[None], Scene]) -> None:
    ringlog = on(None)
    ringlog.publish(EVENTS)
    ringlog.consume(Broken(), 6)
    for wanted in (["--all"], ["--error", "KeyError"], ["--since", "1h", "--json"]):
        nobody = ringlog("discard", "billing", *wanted, code=2)
        assert (nobody.stdout, nobody.stderr) == ("", "Nothing was discarded: there is nobody to ask. Say --yes.\n")
    assert ringlog.json("discard", "billing", "--error", "ValueError") == {"discarded": 0, "already": 0}

    code, said = ringlog.at_a_terminal("n\n", "discard", "billing", "--session=odd-1")
    assert "billing has 2 KeyError, and will handle none of them. Discard them? [y/N]" in said
    assert (code, said.endswith("Nothing was discarded.\n"), len(ringlog.json("list", "billing"))) == (1, True, 4)
    code, said = ringlog.at_a_terminal("y\n", "discard", "billing", "--session=odd-1")
    assert (code, said.endswith("2 discarded.\n"), len(ringlog.json("list", "billing"))) == (0, True, 2)
    assert ringlog.json("discard", "billing", "--all", "--yes") == {"discarded": 2, "already": 0}

    assert ringlog.json("redrive", "billing", "--all")["redriven"] == 0
    assert ringlog.json("redrive", "billing", "--discarded", "--session=odd-1")["redriven"] == 2
    assert ringlog.json("redrive", "billing", "--discarded")["redriven"] == 2, "and no other is left"
    assert ringlog.json("redrive", "billing", "--discarded")["already"] == 0
    assert "not both" in ringlog("redrive", "billing", "0/0", "--discarded", code=2).stderr


def test_what_goes_wrong_is_a_sentence(on: Callable[[None], Scene]) -> None:
    ringlog = on(None)
    ringlog.publish(ODD[2:])
    ringlog.consume(Broken(), 1)
    assert (
        "There is no 'bills': dead letters have billing, calls, recordings" in ringlog("list", "bills", code=2).stderr
    )
    assert "profiles goes past what it can't read" in ringlog("list", "profiles", code=2).stderr
    assert "billing has no dead letter 0/7: `ringlog dead" in ringlog("redrive", "billing", "0/0", "0/7", code=1).stderr
    assert "Name dead letters, or say which by" in ringlog("discard", "billing", code=2).stderr
    assert "not both" in ringlog("redrive", "billing", "0/0", "--all", code=2).stderr
    assert "'soon' is no time; write 30m" in ringlog("list", "billing", "--since", "soon", code=2).stderr
    away = {"KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:1"}
    assert "Kafka can't be reached" in ringlog("redrive", "billing", "0/0", code=1, **away).stderr
    assert "Kafka can't be reached" in ringlog("show", "billing", "0/0", code=1, **away).stderr
    assert "0/0" in ringlog("list", "billing", code=0, **away).stdout
    other = {"TOPIC_PREFIX": "another."}
    assert (
        "Kafka has no topic another.dead-letters.billing"
        in ringlog("redrive", "billing", "0/0", code=1, **other).stderr
    )
    nowhere = {"DATABASE_URL": f"sqlite:///{ringlog.settings.data_dir}/nothing.db"}
    assert "There is no database at" in ringlog("list", "billing", code=1, **nowhere).stderr
    with ringlog.engine.begin() as tx:
        tx.exec_driver_sql("ALTER TABLE dead_letters RENAME TO gone")
    assert "has `ringlog migrate` made its tables?" in ringlog("list", "billing", code=1).stderr


async def test_two_who_redrive_a_letter_at_once_redrive_it_once(engine: Engine) -> None:
    tally.metadata.create_all(engine)
    consumer = tally.Tally(pause_s=0.3)
    event = Record(topic="t", partition=0, offset=4, appended_ms=1, key=b"c", value=b'{"n": 7}', headers=[])
    letter = letter_book.Letter(
        topic="t",
        partition=0,
        offset=4,
        letter_partition=0,
        letter_offset=0,
        event_id=None,
        session_id=None,
        error="KeyError",
        given_up_at=1,
    )
    with engine.begin() as tx:
        letter_book.enter(tx, consumer.name, letter)
    stop = asyncio.Event()
    both = await asyncio.gather(*(Redrive(consumer, engine).one(letter, event, stop) for _ in range(2)))
    assert sorted(map(str, both)) == ["already", "redriven"]
    assert tally.total(engine) == 7


async def test_a_letter_of_another_event_is_not_taken_for_this_one(settings: Settings) -> None:
    """As after a topic of dead letters was deleted and made anew."""
    await create(settings, TOPICS)
    record = ODD[0]
    producer = make_producer(settings)
    await start_within(producer)
    topic = dead_letters("billing").named(settings.topic_prefix)
    await producer.send_and_wait(topic, record.value, key=record.key, partition=0, headers=list(record.headers))
    await producer.stop()
    letter = letter_book.Letter(
        topic="calls.ended",
        partition=0,
        offset=0,
        letter_partition=0,
        letter_offset=0,
        event_id=None,
        session_id=None,
        error="KeyError",
        given_up_at=1,
    )
    assert [it async for it in redrive.read(settings, "billing", [letter])] == [(letter, None)]
