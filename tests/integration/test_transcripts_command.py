"""Transcripts read back by `ringlog transcripts`, from both databases."""

from pathlib import Path

import msgspec
import pytest
from typer.testing import CliRunner, Result

from cli.transcripts import app
from consumers.conversations import read
from consumers.database import migrate, open_engine, read_only
from consumers.search import find
from consumers.transcripts import Transcripts
from runtime.settings import Settings, load_settings
from tests.ended_calls import ended
from tests.logging_restored import logs_restored

ESCAPE = "\x1b[31mred"

OPENING = [{"role": "user", "content": "Is it open on Monday?"}, {"role": "assistant", "content": "Until nine."}]
CALLS = [
    ended("-early", 1, {"chat": OPENING, "ts": 1_700_000_000, "duration": 31.5, "call_status": "user-ended"}),
    ended(
        "late",
        2,
        {
            "chat": [
                {"role": "user", "content": f"Monday? {ESCAPE}"},
                {"role": "user", "content": "mail me@example.com"},
            ],
            "function_calls": [{"name": "hours", "params": {"day": "monday"}, "result": 9}],
        },
    ),
    ended(
        "woven",
        2,
        {
            "chat": [
                {"role": "user", "content": "Thursday?"},
                {"role": "assistant", "tool_calls": [{"id": "1", "function": {"name": "hours", "arguments": "{}"}}]},
                {"role": "tool", "tool_call_id": "1", "content": "from ten"},
                {"role": "assistant", "content": "From ten."},
            ],
            "function_calls": [{"name": "hang_up"}, {"name": "hours", "params": {"day": "thursday"}, "result": "ten"}],
        },
    ),
    ended("broken", 3, {"chat": "[{broken", "function_calls": 5}),
    ended("silent", 4, {}),
    ended("long", 5, {"chat": [{"role": "user", "content": "so " * 1000 + "finally ÄRGER" + " so" * 1000}]}),
]


@pytest.fixture
def books(database_url: str, tmp_path: Path) -> Settings:
    settings = load_settings(database_url=database_url, data_dir=tmp_path)
    migrate(settings)
    engine = open_engine(settings)
    with engine.begin() as tx:
        Transcripts().handle(tx, CALLS)
    engine.dispose()
    return settings


# To FTS5 or to a tsquery each of these would mean something, or be a mistake.
HOSTILE = [
    *"'{\\%*",
    *'"monday|monday AND|(monday|monday)|monday*|^monday|text:monday|a NEAR(b|!monday|<->|a\0'.split("|"),
    "|",
]


def ringlog(settings: Settings, *arguments: str) -> Result:
    env = {"RINGLOG_DATABASE_URL": settings.database_url, "RINGLOG_DATA_DIR": str(settings.data_dir)}
    with logs_restored():
        return CliRunner().invoke(app, arguments, env=env, catch_exceptions=False)


def sessions(settings: Settings, words: str, limit: int = 20) -> list[tuple[str, int]]:
    engine = open_engine(settings)
    with read_only(engine).connect() as tx:
        found = [(it.session_id, it.position) for it in find(tx, words, limit)]
    engine.dispose()
    return found


def test_turns_that_hold_all_words_are_found_newest_calls_first(books: Settings) -> None:
    assert sessions(books, "monday") == [("late", 0), ("-early", 0)]
    assert sessions(books, "monday", limit=1) == [("late", 0)]
    assert sessions(books, "MONDAY open") == [("-early", 0)]
    assert sessions(books, "monday nine") == []  # in two turns
    assert sessions(books, "mond") == []  # half a word
    assert sessions(books, "ärger") == [("long", 0)]
    assert sessions(books, "me@example.com") == [("late", 1)]


@pytest.mark.parametrize("words", HOSTILE)
def test_no_words_are_a_mistake_of_syntax(books: Settings, words: str) -> None:
    result = ringlog(books, "search", "--json", words)
    assert result.exit_code in (0, 1, 2)
    assert result.exit_code != 2 or "holds no word" in result.stderr


def test_a_revised_transcript_is_found_by_its_new_words_only(books: Settings) -> None:
    engine = open_engine(books)
    with engine.begin() as tx:
        Transcripts().handle(tx, [ended("-early", 9, {"chat": [{"role": "user", "content": "Closed on Sunday"}]})])
    engine.dispose()
    assert sessions(books, "monday") == [("late", 0)]
    assert sessions(books, "sunday") == [("-early", 0)]


def test_search_prints_matches_and_says_when_there_are_none(books: Settings) -> None:
    found = ringlog(books, "search", "monday")
    assert found.exit_code == 0
    assert "-early  2023-11-14 22:13:20 UTC, agent -agent" in found.stdout
    assert "   0   user  Is it open on Monday?" in found.stdout
    assert "\x1b[31m" not in found.stdout  # a caller's words don't drive the reader's terminal
    nothing = ringlog(books, "search", "tuesday")
    assert (nothing.exit_code, nothing.stdout) == (1, "")
    assert "No turn of any transcript holds 'tuesday'" in nothing.stderr
    as_json = ringlog(books, "search", "--json", "tuesday")
    assert (as_json.exit_code, msgspec.json.decode(as_json.stdout)) == (1, [])
    assert ringlog(books, "search", "?!").exit_code == 2


def test_of_a_long_turn_search_prints_what_stands_around_the_match(books: Settings) -> None:
    printed = ringlog(books, "search", "ärger").stdout
    assert "finally ÄRGER" in printed
    assert len(printed) < 600
    (found,) = msgspec.json.decode(ringlog(books, "search", "--json", "ärger").stdout)
    assert len(found["text"]) > 6_000


def test_show_prints_a_call(books: Settings) -> None:
    early = ringlog(books, "show", "-early")
    assert early.exit_code == 0
    assert early.stdout.splitlines() == [
        "-early  agent -agent",
        "2023-11-14 22:13:20 UTC, 31.5 s, user-ended",
        "",
        "  user  Is it open on Monday?",
        " agent  Until nine.",
    ]
    late = ringlog(books, "show", "late").stdout
    assert 'called  hours({"day":"monday"}) -> 9' in late
    assert "Monday? \ufffd[31mred" in late


def test_show_says_what_could_not_be_read(books: Settings) -> None:
    broken = ringlog(books, "show", "broken").stdout
    assert 'The chat could not be read. As it came:\n"[{broken"' in broken
    assert "The function calls could not be read" in broken
    assert "No chat was sent." in ringlog(books, "show", "silent").stdout
    unknown = ringlog(books, "show", "nobody")
    assert (unknown.exit_code, unknown.stdout) == (1, "")
    assert "There is no transcript of session 'nobody'" in unknown.stderr


def test_show_prints_json(books: Settings) -> None:
    shown = msgspec.json.decode(ringlog(books, "show", "--json", "late").stdout)
    assert (shown["session_id"], shown["chat_state"], shown["received_at"] % 1000) == ("late", "ok", 2)
    assert shown["turns"][1] == {"role": "user", "text": "mail me@example.com", "original_role": "user"}
    call = {"name": "hours", "params": '{"day":"monday"}', "result": "9", "turns_before": None}
    assert shown["function_calls"] == [call]


def test_show_weaves_in_the_calls_whose_place_is_known(books: Settings) -> None:
    assert ringlog(books, "show", "woven").stdout.splitlines()[3:] == [
        "  user  Thursday?",
        " agent  ",
        'called  hours({"day":"thursday"}) -> "ten"',
        "  tool  from ten",
        " agent  From ten.",
        "",
        "called  hang_up()",
    ]
    shown = msgspec.json.decode(ringlog(books, "show", "--json", "woven").stdout)
    assert [(it["name"], it["turns_before"]) for it in shown["function_calls"]] == [("hang_up", None), ("hours", 2)]


def test_reading_back_is_what_was_stored(books: Settings) -> None:
    engine = open_engine(books)
    with read_only(engine).connect() as tx:
        conversation = read(tx, "-early")
        assert conversation is not None
        assert [turn.text for turn in conversation.turns] == ["Is it open on Monday?", "Until nine."]
        assert read(tx, "nobody") is None
    engine.dispose()


def test_without_a_database_or_its_tables_the_command_says_so(database_url: str, tmp_path: Path) -> None:
    missing = load_settings(database_url=f"sqlite:///{tmp_path / 'none' / 'x.db'}", data_dir=tmp_path)
    result = ringlog(missing, "search", "monday")
    assert (result.exit_code, "There is no database at" in result.stderr) == (1, True)
    assert not (tmp_path / "none").exists()
    empty = load_settings(database_url=database_url, data_dir=tmp_path)
    open_engine(empty).connect().close()
    result = ringlog(empty, "show", "s")
    assert (result.exit_code, "has `ringlog migrate` made its tables?" in result.stderr) == (1, True)
