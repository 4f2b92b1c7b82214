"""`ringlog migrate`: what it says of the place."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cli import context
from cli.main import app
from consumers.database import DatabaseUnavailable


def test_it_says_in_json_where_the_tables_are(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("RINGLOG_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("RINGLOG_DATABASE_URL", f"sqlite:///{tmp_path}/books.db")
    done = CliRunner().invoke(app, ["migrate", "--json"])
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout) == {"database": f"sqlite:///{tmp_path}/books.db"}
    assert (tmp_path / "books.db").exists()


def test_a_database_that_is_away_is_waited_for_when_asked(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(context, "_FIRST_PAUSE_S", 0.01)
    tries: list[int] = []

    def attempt() -> str:
        tries.append(1)
        if len(tries) < 3:
            raise DatabaseUnavailable("The database is away.")
        return "made"

    with pytest.raises(DatabaseUnavailable):
        context.patiently(attempt, wait=False)
    assert context.patiently(attempt, wait=True) == "made"
    assert len(tries) == 3
    assert "The database is away. Trying again in 0.01 s." in capsys.readouterr().err
