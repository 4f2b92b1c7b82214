"""The consumers under test: each a process with a database of its own, watched while it works."""

import os
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import psycopg

from bench import cpu
from bench.postgres import Postgres
from bench.servers import free_port
from runtime.local_kafka import dies_with_us

RINGLOG = "ringlog"
ONE_BY_ONE = "one by one"
ROW_A_TURN = "a row a turn"  # one by one as well

_APPS = {ONE_BY_ONE: "bench.apps.one_by_one", ROW_A_TURN: "bench.apps.row_a_turn"}

START_DEADLINE_S = 60.0
STOP_DEADLINE_S = 15.0

# Ringlog's progress is one row a partition, and moves by the batch; to count the other's is work for the database.
_POSITIONS = "SELECT coalesce(sum(next_offset), 0) FROM positions"
_ROWS = {
    (ONE_BY_ONE, "billing"): "SELECT count(DISTINCT session_id) FROM billing_entries",
    (ONE_BY_ONE, "transcripts"): "SELECT count(*) FROM transcripts",
    (ROW_A_TURN, "transcripts"): "SELECT count(*) FROM plain_calls",
}
_LOOK_AT_POSITIONS_EVERY_S = 0.02
_COUNT_EVERY_S = 0.5


class ReaderError(RuntimeError):
    """A consumer under test did not do its work; the text has the end of its log."""


@dataclass(frozen=True)
class Moment:
    """How far it was when, and what had been used by then, in seconds of processor time."""

    at: float
    events: int
    consumer_s: float
    database_s: float
    machine_s: float
    ours_s: float


class Reader:
    """`way` is who reads, `book` what is kept."""

    def __init__(self, way: str, book: str, environment: Mapping[str, str], database: str, log: Path) -> None:
        self.way = way
        self.book = book
        listen = {"RINGLOG_HOST": "127.0.0.1", "RINGLOG_OPS_PORT": str(free_port())}
        self._environment = {**os.environ, **environment, **listen, "RINGLOG_DATABASE_URL": database}
        self._database = database
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None
        if way != RINGLOG:
            self._count, self._look_every_s = _ROWS[way, book], _COUNT_EVERY_S
        else:
            self._count, self._look_every_s = _POSITIONS, _LOOK_AT_POSITIONS_EVERY_S

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self, core: int) -> None:
        module = ["cli.main", "consume"] if self.way == RINGLOG else [_APPS[self.way]]
        with self._log.open("wb") as log, cpu.on_core(core):
            self._process = subprocess.Popen(
                [sys.executable, "-m", *module, self.book],
                env=self._environment,
                stdout=log,
                stderr=log,
                preexec_fn=dies_with_us(),  # noqa: PLW1509 - it neither imports nor locks in the child
            )

    def window(self, postgres: Postgres, kafka_pid: int, warm_up: int, seconds: float) -> tuple[Moment, Moment]:
        """From the first progress beyond `warm_up` events to the last one within `seconds`. Raises `ReaderError`."""
        deadline = time.monotonic() + START_DEADLINE_S
        with psycopg.connect(self._database, autocommit=True) as connection:
            while (done := self.done(connection)) < warm_up:
                if time.monotonic() > deadline:
                    raise ReaderError(f"{self.way} is at {done} of {self.book}; its log: {self._last_words()}")
                time.sleep(self._look_every_s)
            first = last = self._moment(done, postgres, kafka_pid)
            while last.at - first.at < seconds and time.monotonic() < first.at + seconds + 5:
                time.sleep(self._look_every_s)
                if (done := self.done(connection)) > last.events:
                    last = self._moment(done, postgres, kafka_pid)
        if last.events == first.events:
            raise ReaderError(f"{self.way} made no progress; its log: {self._last_words()}")
        return first, last

    def done(self, connection: psycopg.Connection) -> int:
        """How many events are in the books."""
        row = connection.execute(self._count).fetchone()
        assert row is not None
        return int(row[0])

    def stop(self) -> None:
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(STOP_DEADLINE_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _moment(self, events: int, postgres: Postgres, kafka_pid: int) -> Moment:
        consumer_s, database_s = cpu.used_s(self.pid), postgres.used_s()
        ours_s = consumer_s + database_s + cpu.used_s(kafka_pid) + cpu.used_s("self")
        return Moment(time.monotonic(), events, consumer_s, database_s, cpu.machine_s(), ours_s)

    def _last_words(self) -> str:
        return self._log.read_text(errors="replace")[-2000:]
