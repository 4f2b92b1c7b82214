"""The database of the consumers: SQLite by default, PostgreSQL when told."""

import asyncio
import contextlib
import re
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from psycopg.types.array import ListBinaryDumper
from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url, text
from sqlalchemy import exc as sa_exc

from consumers.arrays import use_arrays
from consumers.outage import outage
from consumers.stopping import unless
from runtime.logs import logger
from runtime.settings import PREFIX, Settings, SettingsError
from runtime.threads import in_thread

# Longer than any transaction of ours, shorter than the time that a process has for stopping.
BUSY_TIMEOUT_S = 5.0
CONNECT_TIMEOUT_S = 5

# How long a PostgreSQL that has vanished without a word (its node died) may hold a statement of ours.
VANISHED_AFTER_S = 20

# How long a process of ours that hangs, or is frozen, in the middle of a transaction may hold its locks: nobody else
# can go on with its partitions, or relay the outbox, meanwhile. PostgreSQL then rolls it back. The relay is idle for
# longest, waiting for an acknowledgement: at most eight seconds.
ABANDONED_AFTER_S = 30.0

# The same, whether it is idle or not: psycopg sends an `executemany` as a pipeline, whose last message stops the timer
# of the former. Far longer than any batch takes, because one that takes longer could never be committed.
LONGEST_TRANSACTION_S = 300.0

# The lanes of the runner and the relay of one process; and a few workers.
POOL_SIZE = 5
POOL_OVERFLOW = 6

# Any number, the same for every migrator: whoever holds it migrates, the others wait for it.
MIGRATION_LOCK = 0x72696E676C6F67

SCHEMA_POLL_S = 1.0
SCHEMA_SAY_EVERY_S = 30.0


_TRANSACTION_TIMEOUT_SINCE = 17_00_00

_READ_ONLY = "ringlog_read_only"
_NOT_STORABLE = re.compile("[\x00\ud800-\udfff]")


def open_engine(settings: Settings) -> Engine:
    """Connects to nothing yet. Raises `SettingsError` for a URL that names no database we know."""
    return engine_of(database_url(settings))


def database_url(settings: Settings) -> URL:
    """Raises `SettingsError`; its sentence never holds what was said, which may hold a password."""
    try:
        url = make_url(settings.database)
    except (sa_exc.ArgumentError, ValueError):
        raise _wrong_url("it is no database URL") from None
    if url.drivername not in ("sqlite", "sqlite+pysqlite", "postgresql+psycopg"):
        raise _wrong_url("ringlog knows no such kind of database")
    if url.get_backend_name() == "sqlite" and url.database in (None, "", ":memory:"):
        raise _wrong_url("several processes share the database, so it must be a file")
    return url


def _wrong_url(reason: str) -> SettingsError:
    return SettingsError(
        f"{PREFIX}DATABASE_URL is wrong: {reason};"
        " write sqlite:////folder/file.db or postgresql://user:password@host:5432/name."
    )


def engine_of(url: URL, *, migrating: bool = False) -> Engine:
    """Every transaction of a SQLite engine takes the write lock at its beginning, unless it is `read_only`."""
    if url.get_backend_name() == "sqlite":
        # Rebuilding a table of SQLite drops it, and with foreign keys on that would delete the rows of its children.
        return _sqlite_engine(url, foreign_keys=not migrating)
    return _postgres_engine(url, hurried=not migrating)


def _postgres_engine(url: URL, hurried: bool) -> Engine:
    engine = create_engine(
        url,
        pool_size=POOL_SIZE,
        max_overflow=POOL_OVERFLOW,
        pool_timeout=BUSY_TIMEOUT_S,
        pool_pre_ping=True,  # a restarted server must not cost an attempt for each connection of the pool
        connect_args={
            "application_name": "ringlog",
            "connect_timeout": CONNECT_TIMEOUT_S,
            "client_encoding": "utf8",
            "options": f"-c timezone=UTC -c idle_in_transaction_session_timeout={int(ABANDONED_AFTER_S * 1000)}",
            "keepalives_idle": VANISHED_AFTER_S // 2,
            "keepalives_interval": 5,
            "keepalives_count": 2,
            "tcp_user_timeout": VANISHED_AFTER_S * 1000,
        },
    )

    @event.listens_for(engine, "connect")
    def prepare(connection: psycopg.Connection, _record: Any) -> None:
        connection.adapters.register_dumper(list, ListBinaryDumper)  # as text, each item is escaped in Python
        use_arrays(connection)
        # PostgreSQL before 17 has no such limit, and refuses a connection that asks for it at once.
        if hurried and connection.info.server_version >= _TRANSACTION_TIMEOUT_SINCE:
            connection.execute(f"SET transaction_timeout = {int(LONGEST_TRANSACTION_S * 1000)}")
            connection.commit()

    return engine


def _sqlite_engine(url: URL, foreign_keys: bool) -> Engine:
    assert url.database is not None  # noqa: S101 - `database_url` refuses to be without
    Path(url.database).absolute().parent.mkdir(parents=True, exist_ok=True)
    engine = create_engine(url, pool_size=POOL_SIZE, max_overflow=POOL_OVERFLOW, pool_timeout=BUSY_TIMEOUT_S)

    @event.listens_for(engine, "connect")
    def configure(connection: sqlite3.Connection, _record: Any) -> None:
        connection.isolation_level = None  # Python's driver must not begin transactions by itself: we do, below
        connection.execute(f"PRAGMA busy_timeout={int(BUSY_TIMEOUT_S * 1000)}")
        connection.execute("PRAGMA journal_mode=WAL")
        # The last transactions may be lost with the machine's power, whole: the positions go back with their effects.
        connection.execute("PRAGMA synchronous=NORMAL")
        connection.execute(f"PRAGMA foreign_keys={'ON' if foreign_keys else 'OFF'}")

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        # A transaction that reads first and writes later could not wait for another's write: it would fail at once.
        reads = connection.get_execution_options().get(_READ_ONLY)
        connection.exec_driver_sql("BEGIN" if reads else "BEGIN IMMEDIATE")

    return engine


def read_only(engine: Engine) -> Engine:
    """The same database for transactions that only read: on SQLite they neither wait for a writer nor hold one up."""
    return engine.execution_options(**{_READ_ONLY: True, "postgresql_readonly": engine.dialect.name == "postgresql"})


@contextlib.contextmanager
def snapshot(engine: Engine) -> Iterator[Connection]:
    """A transaction that only reads, however long it takes, and sees everything as it is at its first look."""
    looking = read_only(engine)
    if engine.dialect.name == "sqlite":
        with looking.connect() as tx:
            yield tx
        return
    with looking.execution_options(isolation_level="REPEATABLE READ").connect() as tx:
        unhurried(tx)
        yield tx


def unhurried(tx: Connection, limit_s: float = 0) -> None:
    """Other limits of PostgreSQL's than those for transactions that hold locks for the length of a batch. By default
    none: it has no lock that a writer would wait for."""
    if tx.dialect.name == "postgresql":
        limit_ms = int(limit_s * 1000)
        tx.exec_driver_sql(f"SET LOCAL idle_in_transaction_session_timeout = {limit_ms}")
        if tx.exec_driver_sql("SHOW server_version_num").scalar_one() >= str(_TRANSACTION_TIMEOUT_SINCE):
            tx.exec_driver_sql(f"SET LOCAL transaction_timeout = {limit_ms}")


def deferred(engine: Engine) -> Engine:
    """Transactions that lock a file of SQLite's when they first write to it, and not at their beginning."""
    return engine.execution_options(**{_READ_ONLY: True})


def clean_text(text: str) -> str:
    """What both databases can store: NUL (PostgreSQL refuses it) and lone surrogates become U+FFFD."""
    if text.isascii() and "\0" not in text:
        return text  # as most are, and a pattern takes five times as long
    return _NOT_STORABLE.sub("\ufffd", text)


class DatabaseUnavailable(ConnectionError):
    """The database could not be reached, in a sentence for people."""


def migrate(settings: Settings) -> None:
    """Brings the schema up to what this version needs. Several at once are one after the other.

    Raises `SettingsError` for a wrong URL and for a schema that is newer, `DatabaseUnavailable` when it is away.
    """
    url = database_url(settings)
    engine = engine_of(url, migrating=True)
    try:
        with engine.begin() as connection:  # SQLite: this is the lock
            if connection.dialect.name == "postgresql":
                connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": MIGRATION_LOCK})
            config = _alembic()
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
    except CommandError as error:  # after a rollback: it names a step that this version does not have
        place = url.render_as_string(hide_password=True)
        raise SettingsError(
            f"the database {place} has the tables of a newer ringlog ({error}): run that version again."
            " They are never taken back; an empty database would be filled from the topics."
        ) from None
    except sa_exc.OperationalError as error:
        place = url.render_as_string(hide_password=True)
        raise DatabaseUnavailable(f"the database {place} can't be used: {error.orig}") from error
    finally:
        engine.dispose()


def schema_is_current(engine: Engine) -> bool:
    """Whether the database has the schema of this version. Raises what the database raises."""
    with read_only(engine).connect() as connection:
        revision = MigrationContext.configure(connection).get_current_revision()
    return revision == ScriptDirectory.from_config(_alembic()).get_current_head()


async def wait_for_schema(engine: Engine, stop: asyncio.Event) -> None:
    """Returns when the database has the schema of this version, or when `stop` is set; says what it waits for."""
    log = logger("consumers.database")
    loop = asyncio.get_running_loop()
    said_at = -SCHEMA_SAY_EVERY_S
    while not stop.is_set():
        try:
            if await unless(stop, in_thread(schema_is_current, engine)):
                return
            reason = "`ringlog migrate` has not run for this version"
        except sa_exc.SQLAlchemyError as error:
            if (found := outage(error)) is None:
                raise
            reason = f"the database can't be used: {found.reason}"
        if loop.time() - said_at >= SCHEMA_SAY_EVERY_S:
            said_at = loop.time()
            log.warning("waiting for the database's schema", reason=reason)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), SCHEMA_POLL_S)


def _alembic() -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations").replace("%", "%%"))
    return config
