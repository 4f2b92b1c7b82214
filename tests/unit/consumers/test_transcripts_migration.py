"""Transcripts that were written when turns and function calls had tables of their own are carried over to the byte."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from sqlalchemy import Engine, text

from consumers import database
from consumers.search import find
from consumers.transcripts import MAX_TURNS, Transcripts
from runtime.settings import load_settings
from tests.ended_calls import ended
from tests.search_in_step import assert_search_in_step

# What JSON escapes, each database and msgspec in its own way; what is beyond 16 bits; and what has no meaning at all.
ODD = "".join(map(chr, range(1, 0x180))) + "\u2028\u2029\ufeff\ufffd\uffff\U0001f600\U0010ffff</script>\\u0000\\"

TURNS = "session_id, position, role, original_role, text"
CALLS = "session_id, position, name, params, result, turns_before"
OLD = (
    ("transcript_turns", TURNS),
    ("transcript_function_calls", CALLS),
)

TALK = [{"role": "user", "content": ODD}, {"role": "Human", "content": ""}, {"content": "nobody said that"}, "so"]
WOVEN = [
    {"role": "assistant", "tool_calls": [{"id": "1", "function": {"name": "hours", "arguments": "{}"}}]},
    {"role": "tool", "tool_call_id": "1", "content": "from ten"},
]
EVENTS = [
    ended("odd", 1, {"chat": TALK, "function_calls": [{"name": ODD, "params": {ODD: [1.5, None]}, "result": ODD}]}),
    ended("woven", 2, {"chat": WOVEN, "function_calls": [{"name": "hang_up"}, {"name": "hours"}], "ts": 5}),
    ended("empty", 3, {"chat": [], "function_calls": "[]", "duration": 3}),
    ended("silent", 4, {}),
    ended("broken", 5, {"chat": "[{broken", "function_calls": 5, "call_status": ODD}),
    ended("calls only", 6, {"function_calls": [{"name": f"f{n}", "params": n} for n in range(12)]}),
    ended("longest", 7, {"chat": [f"turn {n}" for n in range(MAX_TURNS)], "function_calls": [{}] * MAX_TURNS}),
    ended("large", 8, {"chat": ["needle " + "hay " * 1_000_000]}),
]


@pytest.fixture
def urls(request: pytest.FixtureRequest, database_url: str, tmp_path: Path) -> tuple[str, str]:
    """Of two databases of one kind."""
    if database_url.startswith("sqlite"):
        return database_url, f"sqlite:///{tmp_path / 'other.db'}"
    new_database: Callable[[], str] = request.getfixturevalue("new_database")
    return database_url, new_database()


@pytest.fixture
def today(urls: tuple[str, str]) -> Iterator[Engine]:
    """Written by the consumer."""
    settings = load_settings(database_url=urls[0])
    database.migrate(settings)
    engine = database.open_engine(settings)
    with engine.begin() as tx:
        Transcripts().handle(tx, EVENTS)
    yield engine
    engine.dispose()


def before(engine: Engine, written: Engine) -> None:
    """The tables of 0006, with what was written in those of today."""
    with engine.begin() as tx:
        config = database._alembic()
        config.attributes["connection"] = tx
        command.upgrade(config, "0006")
    with engine.begin() as tx:
        columns = ", ".join(it[1] for it in tx.execute(text(_COLUMNS[engine.dialect.name])) if it[1] not in _NEW)
        for table, names in (("transcripts", columns), *OLD):
            rows = read(written, f"SELECT {names} FROM {table}")
            values = ", ".join(f":{name}" for name in names.split(", "))
            tx.execute(text(f"INSERT INTO {table} ({names}) VALUES ({values})"), rows)


_COLUMNS = {
    "sqlite": "SELECT cid, name FROM pragma_table_info('transcripts')",
    "postgresql": "SELECT ordinal_position, column_name FROM information_schema.columns"
    " WHERE table_name = 'transcripts'",
}
_NEW = ("said", "speakers", "called", "search")


def read(engine: Engine, query: str) -> list[dict[str, Any]]:
    with engine.connect() as tx:
        return [dict(row) for row in tx.execute(text(query)).mappings()]


def test_old_transcripts_become_what_the_consumer_writes_today(urls: tuple[str, str], today: Engine) -> None:
    settings = load_settings(database_url=urls[1])
    engine = database.open_engine(settings)
    before(engine, today)
    turns = [read(engine, f"SELECT {names} FROM {table} ORDER BY 1, 2") for table, names in OLD]
    assert [len(rows) for rows in turns] == [4 + 2 + MAX_TURNS + 1, 1 + 2 + 12 + MAX_TURNS]
    database.migrate(settings)

    every = "SELECT * FROM transcripts ORDER BY session_id"
    assert read(engine, every) == read(today, every)
    assert [read(engine, f"SELECT {names} FROM {table} ORDER BY 1, 2") for table, names in OLD] == turns
    with engine.connect() as tx:
        assert [(it.session_id, it.position) for it in find(tx, "needle hay", 5)] == [("large", 0)]
        assert [(it.session_id, it.position) for it in find(tx, "turn 9999", 5)] == [("longest", 9999)]
    assert_search_in_step(engine)
    with engine.begin() as tx:  # what comes again is nothing new, and leaves no word to others
        Transcripts().handle(tx, EVENTS)
    engine.dispose()


def test_an_empty_database_is_migrated_too(urls: tuple[str, str]) -> None:
    settings = load_settings(database_url=urls[1])
    database.migrate(settings)
    engine = database.open_engine(settings)
    assert [read(engine, f"SELECT {names} FROM {table}") for table, names in OLD] == [[], []]
    engine.dispose()
