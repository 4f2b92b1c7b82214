"""The shadow: a copy of a consumer's tables beside the live ones, in which a replay builds its books.

On PostgreSQL it is a schema of the same database, on SQLite a file beside it. Through its own `engine` the consumer's
code runs in it unchanged, as if the live tables weren't there. Through `joint` both are seen: the live tables by their
names, those of the shadow by `of`.
"""

import functools
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
from sqlalchemy import (
    URL,
    BigInteger,
    Column,
    Connection,
    Engine,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    event,
    inspect,
    select,
    text,
)

from consumers.database import deferred, engine_of, unhurried
from consumers.replay.books import BOOKS
from consumers.replay.recipe import Recipe
from consumers.tables import outbox, positions

own = MetaData()

# One row: what the shadow is built from, as JSON.
recipes = Table("replay_recipe", own, Column("recipe", Text, nullable=False))

# Of a replay that reads a part of the log: which events it has read, each with the earliest time of receipt.
seen = Table(
    "replay_seen",
    own,
    Column("event_id", Text, primary_key=True),
    Column("received_at", BigInteger, nullable=False),
)

# Events that the consumer's code raised for. Live they would be dead letters.
failures = Table(
    "replay_failures",
    own,
    Column("topic", Text, primary_key=True),
    Column("partition", Integer, primary_key=True),
    Column("offset", BigInteger, primary_key=True),
    Column("event_id", Text),
    Column("session_id", Text),
    Column("error", Text, nullable=False),
    Column("place", Text, nullable=False),
)

# Events that were left out, because the live consumer has given them up.
skipped = Table(
    "replay_skipped",
    own,
    Column("topic", Text, primary_key=True),
    Column("partition", Integer, primary_key=True),
    Column("offset", BigInteger, primary_key=True),
)

# Rows that differ, counted by table, session and kind: added, removed or changed.
differences = Table(
    "replay_differences",
    own,
    Column("session_id", Text, primary_key=True),
    Column("book", Text, primary_key=True),
    Column("change", Text, primary_key=True),
    Column("rows", Integer, nullable=False),
)

# Derived events that a swap will say, made ready before anybody has to wait for it.
prepared = Table(
    "replay_corrections",
    own,
    Column("id", BigInteger, primary_key=True, autoincrement=False),
    Column("session_id", Text, nullable=False),
    Column("packed", LargeBinary, nullable=False),
)


class Shadow:
    """Of one consumer. Opens no connection by itself. Whoever writes to it holds the lock of `lock.locked`."""

    def __init__(self, live: Engine, consumer: str) -> None:
        self.consumer = consumer
        self.schema = f"ringlog_replay_{consumer}"
        self._tables = [*BOOKS[consumer].tables, positions, outbox]
        self.file: Path | None = None
        if live.dialect.name == "sqlite":
            self.file = Path(f"{live.url.database}-replay") / f"{consumer}.db"
            self.engine = engine_of(URL.create("sqlite", database=str(self.file)))
            self.joint = _attached(live, self.file, self.schema)
        else:
            self.engine = _within(live, self.schema)
            self.joint = live

    @property
    def lock_file(self) -> Path | None:
        return None if self.file is None else self.file.with_suffix(".lock")

    @functools.cache  # noqa: B019 - a shadow lives as long as its command
    def of(self, table: Table) -> Table:
        """The shadow's table, for statements of `joint`."""
        return table.to_metadata(MetaData(), schema=self.schema)

    def recipe(self) -> Recipe | None:
        """None when there is no shadow."""
        if self.file is not None and not self.file.exists():
            return None
        with self.engine.begin() as tx:
            if not inspect(tx).has_table(recipes.name):
                return None
            return msgspec.json.decode(tx.scalars(select(recipes.c.recipe)).one(), type=Recipe)

    def make(self, recipe: Recipe) -> None:
        """Anew: what was there is gone. All of it or nothing is there, whenever it is killed."""
        self.drop()
        with self.engine.begin() as tx:
            if self.file is None:
                tx.execute(text(f"CREATE SCHEMA {self.schema}"))
            for table in self._tables:
                table.create(tx, checkfirst=False)
            own.create_all(tx, checkfirst=False)
            tx.execute(recipes.insert().values(recipe=msgspec.json.encode(recipe).decode()))

    def analyze(self) -> None:
        """PostgreSQL does it by itself, some minutes later: until then its plans are made for tables that are empty."""
        if self.file is None:
            with self.engine.begin() as tx:
                for table in (*self._tables, *own.sorted_tables):
                    tx.execute(text(f"ANALYZE {table.name}"))

    def drop(self) -> bool:
        """Whether there was one."""
        if self.file is None:
            with self.joint.begin() as tx:
                there = tx.execute(text("SELECT to_regnamespace(:schema)"), {"schema": self.schema}).scalar()
                tx.execute(text(f"DROP SCHEMA IF EXISTS {self.schema} CASCADE"))
            return there is not None
        self.close()
        there = self.file.exists()
        for suffix in ("-wal", "-shm", ""):  # the file last: without it the others mean nothing
            Path(f"{self.file}{suffix}").unlink(missing_ok=True)
        return there

    def close(self) -> None:
        self.engine.dispose()
        self.joint.dispose()

    @contextmanager
    def beside_live(self) -> Iterator[Connection]:
        """A transaction that sees both as they are at its first look, however long it takes, and writes to the shadow
        alone. Commits at the end."""
        options: dict[str, Any] = {} if self.file is not None else {"isolation_level": "REPEATABLE READ"}
        with deferred(self.joint).execution_options(**options).connect() as tx, tx.begin():
            unhurried(tx)
            yield tx

    @contextmanager
    def into_live(self, limit_s: float) -> Iterator[Connection]:
        """A transaction that may write to both, and sees what was committed before each statement. On SQLite a file is
        locked by the first statement that writes to it. Commits at the end; PostgreSQL ends it after `limit_s`."""
        with deferred(self.joint).connect() as tx, tx.begin():
            unhurried(tx, limit_s)
            yield tx


def _within(live: Engine, schema: str) -> Engine:
    """Sees nothing but the schema: what is not in it must not be taken from the live tables."""
    engine = engine_of(live.url)

    @event.listens_for(engine, "connect")
    def look(connection: Any, _record: Any) -> None:
        connection.execute(f"SET search_path TO {schema}")
        connection.commit()

    return engine


def _attached(live: Engine, file: Path, schema: str) -> Engine:
    engine = engine_of(live.url)

    @event.listens_for(engine, "connect")
    def attach(connection: Any, _record: Any) -> None:
        connection.execute(f"ATTACH DATABASE ? AS {schema}", [str(file)])

    return engine
