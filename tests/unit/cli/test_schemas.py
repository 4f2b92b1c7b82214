"""`ringlog schemas export` as a user runs it."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from cli.main import app
from schemas.export import documents
from tests.logging_restored import logs_restored

Export = Callable[..., Result]


@pytest.fixture
def export(tmp_path: Path) -> Export:
    def run(*arguments: str, **environment: str) -> Result:
        with logs_restored():
            env = {"RINGLOG_DATA_DIR": str(tmp_path / "data"), **environment}
            return CliRunner().invoke(app, ["schemas", "export", *arguments], env=env)

    return run


def test_without_a_folder_the_asyncapi_document_is_printed(export: Export) -> None:
    said = export()
    assert said.exit_code == 0
    assert said.stdout.encode() == documents()["asyncapi.json"]


def test_into_a_folder_go_all_of_them(export: Export, tmp_path: Path) -> None:
    folder = tmp_path / "contracts"
    said = export(str(folder), RINGLOG_TOPIC_PREFIX="team-a.", RINGLOG_TOPIC_PARTITIONS="24")
    assert said.exit_code == 0
    assert said.stdout == ""
    assert f"{len(documents())} files written" in said.stderr
    assert {file.name for file in folder.iterdir()} == documents().keys()
    ended = json.loads((folder / "asyncapi.json").read_bytes())["channels"]["calls.ended"]
    assert ended["address"] == "team-a.calls.ended"
    assert ended["bindings"]["kafka"]["partitions"] == 24


def test_where_nothing_can_be_written_there_is_a_sentence(export: Export, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    said = export(str(tmp_path / "file"))
    assert said.exit_code == 1
    assert "can't be written" in said.stderr


def test_a_wrong_setting_is_a_sentence(export: Export) -> None:
    said = export(RINGLOG_TOPIC_PARTITIONS="many")
    assert said.exit_code == 2
    assert "RINGLOG_TOPIC_PARTITIONS" in said.stderr
