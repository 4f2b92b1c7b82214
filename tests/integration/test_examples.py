"""The examples as a user runs them: `ringlog consume` in their folder, against a real broker, and killed."""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from calls_per_minute import calls_per_minute
from sqlalchemy import select, text
from test_calls_per_minute import COUNTED, EVENTS
from test_notify_over_http import Receiver
from test_parquet_by_day import rows

from consumers import database
from consumers.contract import Record
from consumers.parcels import Message
from consumers.publisher import Publisher
from consumers.tables import positions
from consumers.testing import ended, unreadable
from runtime.settings import PREFIX, Settings
from runtime.topics import check
from schemas.topics import dead_letters
from tests.tallying import opened

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"

# A member of a group that was killed is thrown out after ten seconds, and a process starts in two.
PATIENCE_S = 60.0


@contextlib.contextmanager
def consuming(settings: Settings, example: str, which: str, output: Path, **more: str) -> Iterator["Process"]:
    """`-P`, because Python itself puts the current directory on its path otherwise, and for `ringlog` it doesn't."""
    process = Process(settings, EXAMPLES / example, which, output, more)
    try:
        process.start()
        yield process
    finally:
        process.kill()


class Process:
    def __init__(self, settings: Settings, folder: Path, which: str, output: Path, more: dict[str, str]) -> None:
        named = {
            "KAFKA_BOOTSTRAP_SERVERS": settings.bootstrap_servers,
            "TOPIC_PREFIX": settings.topic_prefix,
            "TOPIC_PARTITIONS": str(settings.topic_partitions),
            "DATABASE_URL": settings.database,
            "HOST": "127.0.0.1",
            "OPS_PORT": "0",
        }
        self._environment = {
            **os.environ,
            **{PREFIX + name: value for name, value in named.items()},
            "PYTHONPATH": str(ROOT),
            **more,
        }
        self._command = [sys.executable, "-P", "-m", "cli.main", "consume", which]
        self._folder = folder
        self._output = output
        self._running: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self._output.open("ab") as output:
            self._running = subprocess.Popen(
                self._command, cwd=self._folder, env=self._environment, stdout=output, stderr=output
            )

    def kill(self) -> None:
        assert self._running is not None
        self._running.kill()
        self._running.wait()

    def stop(self) -> int:
        assert self._running is not None
        self._running.send_signal(signal.SIGTERM)
        return self._running.wait(15)

    @property
    def said(self) -> str:
        return self._output.read_text()


@pytest.fixture
def prepared(settings: Settings, topics: tuple[str, ...]) -> Settings:
    database.migrate(settings)
    return settings


async def publish(settings: Settings, records: Sequence[Record]) -> None:
    publisher = Publisher(settings)
    messages = [
        Message(topic=settings.topic_prefix + it.topic, key=it.key, value=it.value, headers=it.headers)
        for it in records
    ]
    assert await publisher.publish(messages) == [None] * len(messages)
    await publisher.stop()


def until(condition: Callable[[], bool], every_s: float = 0.05) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(every_s)


def done(settings: Settings) -> int:
    with opened(settings) as engine, engine.connect() as tx:
        return sum(tx.execute(select(positions.c.next_offset)).scalars())


def call(number: int) -> Record:
    return ended(f"session-{number}", at=number % 3 * 86_400, caller=f"+1555010{number:04}")


def test_01_prints_every_ended_call_and_its_dead_letters_have_a_topic(prepared: Settings, tmp_path: Path) -> None:
    output = tmp_path / "output"
    asyncio.run(publish(prepared, [*(call(n) for n in range(20)), unreadable()]))
    with consuming(prepared, "01_print_ended_calls", "print_ended_calls:PrintEndedCalls", output) as process:
        until(lambda: done(prepared) == 21)
        assert process.stop() == 0
    for number in range(20):
        assert process.said.count(f"session-{number}: user-ended, 120 s, 2 turns\n") == 1
    (letters,) = asyncio.run(check(prepared, topics=[dead_letters("print-ended-calls")])).topics
    assert letters.found is not None and letters.drifts == ()


def test_02_a_receiver_that_fails_at_first_knows_each_call_once(prepared: Settings, tmp_path: Path) -> None:
    asyncio.run(publish(prepared, [call(n) for n in range(40)]))
    with Receiver() as receiver:
        threading.Thread(target=receiver.serve_forever, daemon=True).start()
        receiver.answers = [503, 500, 503]
        named = "02_notify_over_http", "notify_over_http:NotifyOverHttp"
        with consuming(prepared, *named, tmp_path / "output", NOTIFY_URL=receiver.url) as process:
            until(lambda: len(receiver.told) > 5)
            process.kill()
            process.start()
            # The first life may have told of all that there was; of these only the second one can.
            asyncio.run(publish(prepared, [call(n) for n in range(40, 60)]))
            until(lambda: done(prepared) == 60)
            assert process.stop() == 0
        receiver.shutdown()
    assert len(receiver.told) == 60
    assert receiver.requests >= 63


def test_03_every_event_is_in_the_files_once_through_kills(prepared: Settings, tmp_path: Path) -> None:
    folder = tmp_path / "calls"
    named = "03_parquet_by_day", "parquet_by_day:ParquetByDay"
    with consuming(prepared, *named, tmp_path / "output", PARQUET_FOLDER=str(folder)) as process:
        for start in (0, 100, 200):
            before = len(list(folder.glob("*/*")))
            asyncio.run(publish(prepared, [call(n) for n in range(start, start + 100)]))
            until(lambda before=before: len(list(folder.glob("*/*"))) > before, every_s=0.001)  # type: ignore[misc]
            process.kill()  # in the middle of a batch: some of its files are there, or half written
            process.start()
        asyncio.run(publish(prepared, [call(n) for n in range(300, 310)]))
        until(lambda: done(prepared) == 310)
        assert process.stop() == 0
    assert sorted(str(row["session_id"]) for row in rows(folder)) == sorted(f"session-{n}" for n in range(310))
    assert len({row["day"] for row in rows(folder)}) == 3


def test_04_two_processes_count_every_call_once_through_a_kill(
    prepared: Settings, new_database: Callable[[], str], tmp_path: Path
) -> None:
    on_postgres = prepared.model_copy(update={"database_url": new_database()})
    database.migrate(on_postgres)
    named = "04_calls_per_minute", "calls_per_minute:CallsPerMinute"
    with (
        consuming(on_postgres, *named, tmp_path / "one") as one,
        consuming(on_postgres, *named, tmp_path / "two") as two,
    ):
        asyncio.run(publish(on_postgres, EVENTS))
        until(lambda: done(on_postgres) > 0)
        one.kill()
        one.start()
        asyncio.run(publish(on_postgres, EVENTS))
        until(lambda: done(on_postgres) == 2 * len(EVENTS))
        assert two.stop() == 0
    with opened(on_postgres) as engine, engine.connect() as tx:
        counted = tx.execute(select(calls_per_minute).order_by(*calls_per_minute.primary_key)).all()
        assert [tuple(row) for row in counted] == COUNTED
        assert tx.execute(text("SELECT count(*) FROM counted_sessions")).scalar() == 5


def test_every_example_has_a_readme_that_says_how_it_is_run() -> None:
    folders = sorted(folder for folder in EXAMPLES.glob("[0-9]*") if any(folder.glob("*.py")))
    assert len(folders) >= 4
    for folder in folders:
        assert "ringlog consume" in (folder / "README.md").read_text(), folder
