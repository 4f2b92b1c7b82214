"""Whole calls as `ringlog calls` tells of them, from both databases."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from cli.calls import app
from cli.reconciler.ledger import note
from consumers.billing import Billing
from consumers.call_log import CallLog
from consumers.database import migrate, open_engine
from runtime.settings import Settings, load_settings
from tests.ended_calls import ended, prefetched, time_us
from tests.logging_restored import logs_restored

BODY = {"call_status": "user-ended", "cost_breakdown": [{"type": "stt", "provider": "millis", "credit": 0.0043}]}


@pytest.fixture
def books(database_url: str, tmp_path: Path) -> Settings:
    settings = load_settings(database_url=database_url, data_dir=tmp_path)
    migrate(settings)
    engine = open_engine(settings)
    events = [
        prefetched("-announced", 1),
        prefetched("whole", 2),
        ended("whole", 9, BODY),
        ended("lost", 3, BODY, recovered=True, agent_id="other"),
    ]
    with engine.begin() as tx:
        CallLog().handle(tx, events)
        Billing().handle(tx, [event for event in events if event.topic == "calls.ended"])
        note(tx, {"-announced": "unknown"}, time_us(0))
    engine.dispose()
    return settings


def ringlog(settings: Settings, *arguments: str) -> Result:
    env = {"RINGLOG_DATABASE_URL": settings.database_url, "RINGLOG_DATA_DIR": str(settings.data_dir)}
    with logs_restored():
        return CliRunner().invoke(app, list(arguments), env={**env, "COLUMNS": "200"})


def listed(settings: Settings, *arguments: str) -> list[str]:
    return [row["session_id"] for row in json.loads(ringlog(settings, "list", "--json", *arguments).stdout)]


def test_calls_are_listed_the_newest_first(books: Settings) -> None:
    assert listed(books) == ["lost", "whole", "-announced"]
    assert listed(books, "--limit", "1") == ["lost"]
    assert listed(books, "--agent", "other") == ["lost"]
    assert listed(books, "--overdue") == ["-announced"]
    assert listed(books, "--since", "2100-01-01") == []


def test_a_table_says_what_is_known_and_what_is_not(books: Settings) -> None:
    said = ringlog(books, "list").stdout
    (lost,) = (line for line in said.splitlines() if "lost" in line)
    assert "user-ended (recovered)" in lost and "0.0043" in lost
    (announced,) = (line for line in said.splitlines() if "-announced" in line)
    assert "user-ended" not in announced and "0.0043" not in announced


def test_one_call_is_told_whole(books: Settings) -> None:
    told = json.loads(ringlog(books, "show", "-announced", "--json").stdout)
    assert (told["direction"], told["ended_at"], told["billed_micros"]) == ("inbound", None, None)
    assert told["reconciliation"].startswith("unknown, 20")
    whole = json.loads(ringlog(books, "show", "whole", "--json").stdout)
    assert (whole["billed_micros"], whole["status"], whole["reconciliation"]) == (4_300, "user-ended", None)
    assert whole["prefetched_at"] < whole["ended_at"]


def test_an_id_that_begins_like_an_option_is_an_id(books: Settings) -> None:
    said = ringlog(books, "show", "-hello")
    assert said.exit_code == 1 and "Nothing is known of session '-hello'" in said.stderr


def test_a_call_that_nobody_has_heard_of_is_an_error_with_a_sentence(books: Settings) -> None:
    said = ringlog(books, "show", "nobody")
    assert (said.exit_code, said.stdout) == (1, "") and "Nothing is known of session 'nobody'" in said.stderr
    said = ringlog(books, "list", "--agent", "nobody")
    assert said.exit_code == 1 and "There are no such calls." in said.stderr


def test_a_wrong_time_is_a_wrong_option(books: Settings) -> None:
    said = ringlog(books, "list", "--since", "yesterday")
    assert said.exit_code == 2 and "--since is wrong" in said.stderr
