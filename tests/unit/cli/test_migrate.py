"""`ringlog migrate`: what it says of the place."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cli.main import app


def test_it_says_in_json_where_the_tables_are(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("RINGLOG_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("RINGLOG_DATABASE_URL", f"sqlite:///{tmp_path}/books.db")
    done = CliRunner().invoke(app, ["migrate", "--json"])
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout) == {"database": f"sqlite:///{tmp_path}/books.db"}
    assert (tmp_path / "books.db").exists()
