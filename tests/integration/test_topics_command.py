"""`ringlog topics` as a user runs it: what it prints, and its exit codes."""

import json
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from cli.topics import app
from runtime.settings import Settings
from schemas.topics import CATALOGUE
from tests.logging_restored import logs_restored


class Command:
    def __init__(self, settings: Settings, **environment: str) -> None:
        self._environment = {
            "RINGLOG_KAFKA_BOOTSTRAP_SERVERS": settings.bootstrap_servers,
            "RINGLOG_TOPIC_PREFIX": settings.topic_prefix,
            "RINGLOG_TOPIC_PARTITIONS": str(settings.topic_partitions),
            "RINGLOG_DATA_DIR": str(settings.data_dir),
            **environment,
        }

    def __call__(self, *arguments: str) -> Result:
        with logs_restored():
            return CliRunner().invoke(app, arguments, env=self._environment)

    def json(self, *arguments: str) -> Any:
        return json.loads(self(*arguments, "--json").stdout)


@pytest.fixture
def command(settings: Settings) -> Command:
    return Command(settings)


def test_apply_check_and_list(command: Command, settings: Settings) -> None:
    ended = settings.topic_prefix + "calls.ended"
    before = command("check")
    assert before.exit_code == 1
    assert f"{ended} does not exist" in before.stdout
    made = command("apply")
    assert made.exit_code == 0
    assert f"made {ended}" in made.stdout.splitlines()
    assert command("apply").stdout.startswith("nothing to do")
    after = command("check")
    assert after.exit_code == 0
    assert f"all {len(CATALOGUE)} topics are as they should be" in after.stdout
    assert "not an fsync" in after.stdout.replace("\n", " ")
    assert command("list").exit_code == 0


def test_json_for_programs(command: Command, settings: Settings) -> None:
    assert len(command.json("apply")["created"]) == len(CATALOGUE)
    listed = {topic["name"]: topic for topic in command.json("list")["topics"]}
    facts = listed[settings.topic_prefix + "callers.facts"]
    assert facts["exists"] is True
    assert facts["partitions"] == settings.topic_partitions
    assert facts["config"]["cleanup.policy"] == "compact"
    assert command.json("check")["drifts"] == []


def test_a_drift_is_an_exit_code_and_a_sentence(settings: Settings, command: Command) -> None:
    command("apply")
    more = Command(settings, RINGLOG_TOPIC_PARTITIONS="9")
    checked = more("check")
    assert checked.exit_code == 1
    assert "partitions and 9 were asked for" in checked.stdout.replace("\n", " ")
    (drift, *_) = more.json("check")["drifts"]
    assert (drift["setting"], drift["should"], drift["repairable"]) == ("partitions", "9", False)


def test_what_goes_wrong_is_a_sentence(settings: Settings) -> None:
    away = Command(settings, RINGLOG_KAFKA_BOOTSTRAP_SERVERS="127.0.0.1:1")("check")
    assert away.exit_code == 1
    assert "Kafka can't be reached" in away.stderr
    wrong = Command(settings, RINGLOG_TOPIC_REPLICATION="9")("apply")
    assert wrong.exit_code == 2
    assert "RINGLOG_TOPIC_REPLICATION is wrong" in wrong.stderr.replace("\n", " ")
