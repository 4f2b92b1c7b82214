"""Which errors are the database's own: the real ones, of real databases."""

import threading
from collections.abc import Callable, Iterator

import pytest
from sqlalchemy import Engine, text
from sqlalchemy.exc import SQLAlchemyError

from consumers.database import migrate, open_engine
from consumers.outage import Outage, outage
from runtime.settings import load_settings

ROW = "INSERT INTO sessions VALUES ('c', 's')"


@pytest.fixture
def postgresql(new_database: Callable[[], str]) -> Iterator[Engine]:
    settings = load_settings(database_url=new_database())
    migrate(settings)
    engine = open_engine(settings)
    yield engine
    engine.dispose()


def of(engine: Engine, *statements: str) -> Outage | None:
    """What the last of them fails with, in one transaction."""
    with pytest.raises(SQLAlchemyError) as raised, engine.begin() as tx:
        for statement in statements:
            tx.execute(text(statement))
    return outage(raised.value)


@pytest.mark.parametrize(
    "statement",
    [
        "INSERT INTO missing VALUES (1)",
        "SELECT missing FROM sessions",
        "UPDATE sessions SET missing = 1",
        "INSERT INTO sessions (missing) VALUES (1)",
    ],
)
def test_a_schema_that_is_not_there_lasts(engine: Engine, statement: str) -> None:
    found = of(engine, statement)
    assert found is not None
    assert not found.passes
    assert "missing" in found.reason
    assert "\n" not in found.reason, "what follows may quote the statement"


@pytest.mark.parametrize(
    "statement",
    [
        "INSERT INTO transcript_turns (session_id, position) VALUES ('s', 0)",
        "DELETE FROM transcript_turns WHERE session_id = 's'",
    ],
)
def test_a_table_that_a_later_version_has_made_a_view_lasts(engine: Engine, statement: str) -> None:
    found = of(engine, statement)
    assert found is not None
    assert not found.passes
    assert "view" in found.reason


def test_what_the_data_or_the_statement_does_wrong_is_no_outage(engine: Engine) -> None:
    for wrong in (
        "INSERT INTO sessions VALUES ('c', NULL)",
        "no such statement",
        "INSERT INTO sessions VALUES (1, 2, 3)",
    ):
        assert of(engine, wrong) is None
    assert of(engine, ROW, ROW) is None


def test_a_full_sqlite(tmp_path: object) -> None:
    settings = load_settings(database_url=f"sqlite:///{tmp_path}/books.db")
    migrate(settings)
    engine = open_engine(settings)
    full = of(engine, "PRAGMA max_page_count = 1", "INSERT INTO sessions VALUES ('c', hex(zeroblob(100000)))")
    assert full == Outage("database or disk is full", False)
    read_only = of(engine, "PRAGMA query_only = ON", ROW)
    assert read_only == Outage("attempt to write a readonly database", False)
    engine.dispose()


@pytest.mark.parametrize(
    ("statements", "passes", "reason"),
    [
        (["SET TRANSACTION READ ONLY", ROW], False, "in a read-only transaction"),
        (["SET LOCAL ROLE pg_monitor", ROW], False, "permission denied for table sessions"),
        (["SET LOCAL search_path = nowhere", ROW], False, 'relation "sessions" does not exist'),
        (["INSERT INTO nowhere.sessions VALUES (1)"], False, "does not exist"),
        (["UPDATE transcripts SET words = ARRAY['one']"], False, 'column "words" is of type integer[]'),
        (["SELECT 1 FROM transcripts WHERE words && ARRAY['one']"], False, "operator does not exist"),
        (
            [
                "SET LOCAL temp_file_limit = 0",
                "SELECT count(*) FROM (SELECT n FROM generate_series(1, 1000000) n ORDER BY md5(n::text)) x",
            ],
            False,
            "temporary file size exceeds",
        ),
        (["DO $$ BEGIN RAISE 'could not extend file' USING ERRCODE = 'disk_full'; END $$"], False, "could not extend"),
        (["DO $$ BEGIN RAISE 'too many' USING ERRCODE = 'too_many_connections'; END $$"], True, "too many"),
        (["DO $$ BEGIN RAISE 'it is locked' USING ERRCODE = 'lock_not_available'; END $$"], True, "it is locked"),
        (["SET LOCAL statement_timeout = 20", "SELECT pg_sleep(5)"], True, "canceling statement"),
        (["SELECT pg_terminate_backend(pg_backend_pid())"], True, "terminating connection"),
    ],
)
def test_outages_of_postgresql(postgresql: Engine, statements: list[str], passes: bool, reason: str) -> None:
    found = of(postgresql, *statements)
    assert found is not None
    assert reason in found.reason
    assert found.passes is passes


def test_a_deadlock_and_a_lost_race_pass(postgresql: Engine) -> None:
    with postgresql.begin() as tx:
        tx.execute(text("INSERT INTO sessions VALUES ('c', '0'), ('c', '1')"))
    both_hold_one = threading.Barrier(2)
    found: list[Outage | None] = []

    def crossing(first: int) -> None:
        try:
            with postgresql.begin() as tx:
                for turn, session in enumerate((first, 1 - first)):
                    tx.execute(text(f"UPDATE sessions SET session_id = session_id WHERE session_id = '{session}'"))
                    if turn == 0:
                        both_hold_one.wait(10)
        except SQLAlchemyError as error:
            found.append(outage(error))

    threads = [threading.Thread(target=crossing, args=(n,)) for n in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [Outage("deadlock detected", True)]

    with postgresql.connect().execution_options(isolation_level="REPEATABLE READ") as late:
        late.execute(text("SELECT * FROM sessions"))
        with postgresql.begin() as early:
            early.execute(text("UPDATE sessions SET consumer = 'd'"))
        with pytest.raises(SQLAlchemyError) as raised:
            late.execute(text("UPDATE sessions SET consumer = 'e'"))
    assert outage(raised.value) == Outage("could not serialize access due to concurrent update", True)
