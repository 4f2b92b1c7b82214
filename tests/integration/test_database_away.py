"""A database that is locked, or gone: it is waited for, and no event is given up."""

import asyncio

import psycopg
import psycopg.sql
from sqlalchemy import text

from consumers import database
from runtime.settings import Settings
from schemas.topics import dead_letters
from tests.tally import Counted, Tally, total
from tests.tallying import (
    opened,
    publish,
    read,
    running,
    until,
)


async def test_a_locked_database_is_waited_for(on_sqlite: Settings) -> None:
    with opened(on_sqlite) as engine:
        async with running(on_sqlite, Tally(), engine) as runner:
            await until(lambda: runner.health()[0])
            other = engine.connect()
            other.execute(text("SELECT 1"))  # its transaction holds the write lock
            await publish(on_sqlite, [Counted(1)] * 10)
            await asyncio.sleep(database.BUSY_TIMEOUT_S + 1)
            assert runner.health()[1]["database"] == "away"
            other.close()
            await until(lambda: total(engine) == 10)
            await until(lambda: runner.health()[0])
    assert await read(on_sqlite, dead_letters("tally")) == []


async def test_a_database_that_refuses_connections_is_waited_for(on_postgres: Settings, postgres: str) -> None:
    name = psycopg.conninfo.conninfo_to_dict(str(on_postgres.database_url))["dbname"]
    with opened(on_postgres) as engine, psycopg.connect(postgres, autocommit=True) as operator:
        consumer = Tally(pause_s=0.2)
        async with running(on_postgres, consumer, engine) as runner:
            await publish(on_postgres, [Counted(1)] * 10)
            await until(lambda: bool(consumer.handled))
            allow_connections(operator, name, False)
            terminate(operator, name)  # in the middle of a batch
            await publish(on_postgres, [Counted(1)] * 10)
            await until(lambda: runner.health()[1]["database"] == "away")
            await asyncio.sleep(1)
            allow_connections(operator, name, True)
            await until(lambda: total(engine) == 20)
            await asyncio.sleep(0.5)
            assert total(engine) == 20
    assert await read(on_postgres, dead_letters("tally")) == []


def allow_connections(operator: psycopg.Connection, name: object, allowed: bool) -> None:
    statement = psycopg.sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS {}")
    operator.execute(statement.format(psycopg.sql.Identifier(str(name)), psycopg.sql.Literal(allowed)))


def terminate(operator: psycopg.Connection, name: object) -> None:
    operator.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [name])
