"""What differs between the databases, and what must not."""

import asyncio
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Engine, insert, select, text
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from consumers import database
from consumers.database import clean_text, migrate
from consumers.outage import is_unavailable
from consumers.runner import LANES
from consumers.tables import metadata, sessions
from runtime.settings import SettingsError, load_settings


def test_the_migrations_make_the_tables_that_the_code_expects(engine: Engine) -> None:
    def is_ours(name: str | None, kind: str, _parents: object) -> bool:
        searching = kind == "table" and (name or "").startswith("transcript_search")
        searching |= kind == "index" and name == "ix_transcripts_words"
        return not searching

    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True, "include_name": is_ours})
        differences = [it for it in compare_metadata(context, metadata) if "search" not in str(it)]
    assert differences == []


def test_migrating_again_changes_nothing(database_url: str) -> None:
    settings = load_settings(database_url=database_url)
    migrate(settings)
    migrate(settings)
    engine = database.open_engine(settings)
    assert database.schema_is_current(engine)
    engine.dispose()


def test_tables_of_a_newer_version_are_not_touched_and_named(engine: Engine, database_url: str) -> None:
    with engine.begin() as tx:
        tx.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(SettingsError, match=r"has the tables of a newer ringlog .*9999.*: run that version again"):
        migrate(load_settings(database_url=database_url))
    with engine.connect() as tx:
        assert tx.scalar(text("SELECT version_num FROM alembic_version")) == "9999"


def test_migrators_at_once_are_one_after_the_other(database_url: str) -> None:
    code = (
        "from consumers.database import migrate; from runtime.settings import load_settings; migrate(load_settings())"
    )
    migrators = [
        subprocess.Popen([sys.executable, "-c", code], env={"RINGLOG_DATABASE_URL": database_url}) for _ in range(3)
    ]
    assert [it.wait(60) for it in migrators] == [0, 0, 0]


async def test_the_schema_is_waited_for(database_url: str) -> None:
    settings = load_settings(database_url=database_url)
    engine = database.open_engine(settings)
    waiting = asyncio.create_task(database.wait_for_schema(engine, asyncio.Event()))
    await asyncio.sleep(0.3)
    assert not waiting.done()
    await asyncio.to_thread(migrate, settings)
    await asyncio.wait_for(waiting, 10)
    engine.dispose()


async def test_a_stop_ends_the_waiting_for_a_database_that_is_away() -> None:
    settings = load_settings(database_url="postgresql://nobody@127.0.0.1:1/nothing")
    engine, stop = database.open_engine(settings), asyncio.Event()
    waiting = asyncio.create_task(database.wait_for_schema(engine, stop))
    await asyncio.sleep(0.3)
    stop.set()
    await asyncio.wait_for(waiting, 5)
    with pytest.raises(database.DatabaseUnavailable, match=r"postgresql\+psycopg://nobody@127.0.0.1:1/nothing"):
        migrate(settings)


@pytest.mark.parametrize("url", ["mysql://u:hidden@h/db", "postgresql://u:hidden@h:port/db", "sqlite://", "hidden"])
def test_a_wrong_url_is_named_and_not_shown(url: str) -> None:
    with pytest.raises(SettingsError, match=r"^RINGLOG_DATABASE_URL is wrong: ") as raised:
        database.open_engine(load_settings(database_url=url))
    assert "hidden" not in str(raised.value)


def test_the_folder_of_a_sqlite_database_is_made(tmp_path: Path) -> None:
    migrate(load_settings(data_dir=tmp_path / "a" / "b"))
    assert (tmp_path / "a" / "b" / "ringlog.db").exists()


def test_clean_text_can_be_stored(engine: Engine) -> None:
    dirty = "a\0b\ud800c\udfffd é 漢 😀"
    assert clean_text(dirty) == "a\ufffdb\ufffdc\ufffdd é 漢 😀"
    with engine.begin() as tx:
        tx.execute(insert(sessions).values(consumer="c", session_id=clean_text(dirty)))
    with engine.connect() as tx:
        assert tx.execute(select(sessions.c.session_id)).scalar_one() == clean_text(dirty)


def failure(engine: Engine, statement: str) -> SQLAlchemyError:
    with pytest.raises(SQLAlchemyError) as raised, engine.begin() as tx:
        tx.execute(text(statement))
    return raised.value


def test_errors_of_the_data_are_no_outage(engine: Engine) -> None:
    row = "INSERT INTO sessions VALUES ('c', 's')"
    with engine.begin() as tx:
        tx.execute(text(row))
    assert not is_unavailable(failure(engine, row))
    assert not is_unavailable(failure(engine, "INSERT INTO sessions VALUES ('c', NULL)"))
    assert not is_unavailable(failure(engine, "no such statement"))
    assert not is_unavailable(ValueError("anything"))


def test_a_missing_table_is_an_outage(engine: Engine) -> None:
    assert is_unavailable(failure(engine, "SELECT * FROM not_yet_migrated"))


def test_a_value_too_long_for_an_index_is_the_datas_fault(new_database: Callable[[], str]) -> None:
    settings = load_settings(database_url=new_database())
    migrate(settings)
    engine = database.open_engine(settings)
    error = failure(
        engine, "INSERT INTO sessions SELECT 'c', string_agg(md5(n::text), '') FROM generate_series(1, 999) n"
    )
    assert isinstance(error.orig if isinstance(error, DBAPIError) else None, psycopg.OperationalError)
    assert not is_unavailable(error)
    engine.dispose()


def test_an_error_that_was_ignored_is_no_outage(new_database: Callable[[], str]) -> None:
    engine = database.open_engine(load_settings(database_url=new_database()))
    with engine.connect() as tx:
        for statement in ("nonsense", "SELECT 1"):  # the second fails because of the first
            with pytest.raises(DBAPIError) as raised:
                tx.execute(text(statement))
    assert isinstance(raised.value.orig, psycopg.errors.InFailedSqlTransaction)
    assert not is_unavailable(raised.value)
    engine.dispose()


def test_a_terminated_connection_is_an_outage(new_database: Callable[[], str]) -> None:
    engine = database.open_engine(load_settings(database_url=new_database()))
    assert is_unavailable(failure(engine, "SELECT pg_terminate_backend(pg_backend_pid())"))
    engine.dispose()


def test_a_server_that_is_away_is_an_outage() -> None:
    engine = database.open_engine(load_settings(database_url="postgresql://nobody@127.0.0.1:1/nothing"))
    assert is_unavailable(failure(engine, "SELECT 1"))


def test_a_locked_sqlite_is_an_outage_for_writers_and_none_for_readers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "BUSY_TIMEOUT_S", 0.1)
    settings = load_settings(data_dir=tmp_path)
    migrate(settings)
    engine = database.open_engine(settings)
    with engine.begin() as writer:
        writer.execute(text("SELECT 1"))
        assert is_unavailable(failure(engine, "SELECT 1"))
        with database.read_only(engine).connect() as reader:
            assert reader.execute(text("SELECT 1")).scalar() == 1
    engine.dispose()


def test_each_lane_and_the_relay_have_a_connection_that_stays_open() -> None:
    """One beyond the pool is made and closed with each transaction, and nothing else would tell."""
    assert database.POOL_SIZE > LANES
