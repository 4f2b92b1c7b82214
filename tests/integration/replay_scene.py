"""Kafka, a database, consumers that go on beside, and the command: what tests of a replay stand on."""

import asyncio
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace
from sqlalchemy import Engine, Table, func, select
from typer.testing import CliRunner, Result

from cli.main import app
from consumers import billing, bills
from consumers.billing import Billing
from consumers.bills import Bill
from consumers.calls import EndedCall
from consumers.contract import Consumer
from consumers.database import migrate, open_engine
from consumers.outbox import OutboxRelay
from consumers.plans import load_plans
from consumers.publisher import Publisher
from consumers.runner import Runner
from consumers.tables import billing_entries, outbox, positions
from runtime.kafka import make_producer, start_within, stop_within
from runtime.settings import Settings
from schemas.derived import Charged
from schemas.event import Record
from schemas.topics import BILLING_CHARGES, CALLS_ENDED, CALLS_PREFETCH, RECORDINGS_STORED, TRANSCRIPTS_READY
from schemas.topics import dead_letters as dead_letters_of
from tests.ended_calls import ended
from tests.logging_restored import logs_restored
from tests.tallying import create, read, until

REPOSITORY = Path(__file__).parents[2]

TOPICS = (
    CALLS_PREFETCH,
    CALLS_ENDED,
    BILLING_CHARGES,
    TRANSCRIPTS_READY,
    RECORDINGS_STORED,
    *(dead_letters_of(name) for name in ("calls", "billing", "transcripts", "recordings")),
)

PLANS = """
default = "standard"
[plans.standard]
currency = "USD"
versions = [{ valid_from = 2026-01-01, per_minute = "0.12" }]
"""


def call(session: str, at: int, credit: Any, **more: Any) -> Record:
    breakdown = [{"type": "llm", "provider": "openai", "credit": credit}]
    body = {"cost_breakdown": breakdown, "duration": 30, "ts": 1_780_000_000 + at, **more}
    return ended(session, at, body)


def spread(records: Sequence[Record]) -> list[Record]:
    """Each session's events in one of two partitions."""
    return [replace(it, partition=sum(it.header("ce_subject").encode()) % 2) for it in records]


HISTORY = spread([call("a", 1, 1), call("bx", 2, 2), call("bx", 9, "2.5"), call("cx", 5, 5), ended("d", 6, {})])


@contextmanager
def doubling() -> Iterator[None]:
    """A bug: a call whose session ends with an `x` costs twice as much as it does. It is written so, and told so."""

    def bill_of(ended_call: EndedCall, metadata_key: str | None = None) -> Bill:
        bill = bills.bill_of(ended_call, metadata_key)
        if not ended_call.session_id.endswith("x"):
            return bill
        return replace(bill, charges=tuple(replace(it, amount_micros=2 * it.amount_micros) for it in bill.charges))

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(billing, "bill_of", bill_of)
        yield


class Scene:
    """Kafka, a database, consumers that run beside, and the command."""

    def __init__(self, settings: Settings, engine: Engine) -> None:
        self.settings = settings
        self.engine = engine

    def publish(self, records: Sequence[Record]) -> None:
        """Each to the topic and partition of its record, in this order."""

        async def publishing() -> None:
            producer = make_producer(self.settings)
            await start_within(producer)
            sent = [
                await producer.send(
                    self.settings.topic_prefix + it.topic,
                    it.value,
                    key=it.key,
                    partition=it.partition,
                    headers=list(it.headers),
                )
                for it in records
            ]
            await asyncio.gather(*sent)
            await stop_within(producer)

        asyncio.run(publishing())

    @contextmanager
    def consuming(self, consumer: Consumer) -> Iterator[None]:
        """A runner and its relay, in a thread: they go on while the command runs in this one."""
        started, stop = threading.Event(), asyncio.Event()
        loops: list[asyncio.AbstractEventLoop] = []

        async def main() -> None:
            loops.append(asyncio.get_running_loop())
            publisher = Publisher(self.settings)
            relay = OutboxRelay(self.settings, consumer.name, self.engine, publisher)
            runner = Runner(self.settings, consumer, self.engine, publisher, committed=relay.wake)
            started.set()
            await asyncio.gather(runner.run(stop), relay.run(stop))
            await publisher.stop()

        thread = threading.Thread(target=lambda: asyncio.run(main()))
        thread.start()
        started.wait()
        try:
            yield
        finally:
            loops[0].call_soon_threadsafe(stop.set)
            thread.join()

    def consumed(self, name: str, events: int) -> None:
        """Waits until the consumer has been through so many in all, and has said what it had to say."""

        def through() -> bool:
            with self.engine.connect() as tx:
                at = tx.execute(select(func.sum(positions.c.next_offset)).where(positions.c.consumer == name)).scalar()
                return int(at or 0) == events and not tx.execute(select(outbox.c.id)).first()

        asyncio.run(until(through))

    def consume(self, consumer: Consumer, events: int) -> None:
        with self.consuming(consumer):
            self.consumed(consumer.name, events)

    def billing(self) -> Billing:
        return Billing(load_plans(self.settings))

    def rows(self, *tables: Table) -> list[list[tuple[Any, ...]]]:
        with self.engine.connect() as tx:
            return [[tuple(row) for row in tx.execute(select(table).order_by(*table.primary_key))] for table in tables]

    def bills(self) -> dict[str, int]:
        """What each call costs, as its entries add up."""
        entries = billing_entries.c
        with self.engine.connect() as tx:
            rows = tx.execute(select(entries.session_id, func.sum(entries.amount_micros)).group_by(entries.session_id))
            return {session: int(total) for session, total in rows}

    def change(self, *statements: Any) -> None:
        with self.engine.begin() as tx:
            for statement in statements:
                tx.execute(statement)

    def run(self, *arguments: str, code: int = 0) -> Result:
        with logs_restored():
            result = CliRunner().invoke(app, list(arguments), env=self.environment)
        assert "Traceback" not in result.stderr
        assert result.exit_code == code, (result.output, result.exception)
        return result

    @property
    def environment(self) -> dict[str, str]:
        named = {
            "KAFKA_BOOTSTRAP_SERVERS": self.settings.bootstrap_servers,
            "TOPIC_PREFIX": self.settings.topic_prefix,
            "DATABASE_URL": self.settings.database,
            "DATA_DIR": str(self.settings.data_dir),
            "BILLING_PLANS": str(self.settings.billing_plans),
        }
        return {"COLUMNS": "200", **{f"RINGLOG_{name}": value for name, value in named.items()}}

    def replay(self, *arguments: str, code: int = 0) -> Any:
        said = self.run("replay", *arguments, "--json", code=code).stdout.splitlines()
        return json.loads(
            next(it for it in said if it.startswith("{"))
        )  # the consumer beside may have logged something

    def told(self) -> list[Charged]:
        """What lies in `billing.charges`, each id once."""
        found = asyncio.run(read(self.settings, BILLING_CHARGES))
        events = [msgspec.json.decode(it.value, type=Charged) for it in found]
        assert len({it.event_id for it in events}) == len(events)
        return events

    def process(self, *arguments: str) -> subprocess.Popen[str]:
        """The command in a process of its own, which can be killed."""
        command = [sys.executable, "-m", "cli.main", "replay", *arguments]
        env = {**os.environ, **self.environment, "PYTHONPATH": str(REPOSITORY)}
        return subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@contextmanager
def open_scene(settings: Settings, database_url: str, directory: Path) -> Iterator[Scene]:
    (directory / "plans.toml").write_text(PLANS)
    own = settings.model_copy(update={"database_url": database_url, "billing_plans": directory / "plans.toml"})
    asyncio.run(create(own, TOPICS))
    migrate(own)
    engine = open_engine(own)
    yield Scene(own, engine)
    engine.dispose()
