"""Which ringlog a process of one's own belongs to."""

from pathlib import Path

import pytest

from cli.context import explained, join
from cli.running import Running
from runtime.settings import SettingsError
from tests.logging_restored import logs_restored


def running(folder: Path) -> None:
    Running(
        bootstrap_servers="127.0.0.1:19092",
        webhooks_url="http://127.0.0.1:8080",
        ops_url="http://127.0.0.1:9090",
        database_url=f"sqlite:///{folder}/ringlog.db",
        recordings_url=f"file://{folder}/recordings",
        state_dir=f"{folder}/state",
        webhook_key="key",
        settings={"RINGLOG_OPS_PORT": "9090", "RINGLOG_TOPIC_PREFIX": "eu.", "RINGLOG_DATABASE_URL": "sqlite:////x.db"},
    ).write(folder)


def test_without_a_kafka_it_is_that_of_the_data_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    running(tmp_path)
    monkeypatch.setenv("RINGLOG_DATA_DIR", str(tmp_path))
    with logs_restored():
        joined = join("crm")
    assert (joined.bootstrap_servers, joined.topic_prefix) == ("127.0.0.1:19092", "eu.")
    assert joined.database == f"sqlite:///{tmp_path}/ringlog.db"
    assert joined.ops_port == 0, "the service has its port already"
    monkeypatch.setenv("RINGLOG_OPS_PORT", "9555")
    with logs_restored():
        assert join("crm").ops_port == 9555


def test_with_a_kafka_it_is_what_the_environment_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    running(tmp_path)
    monkeypatch.setenv("RINGLOG_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("RINGLOG_KAFKA_BOOTSTRAP_SERVERS", "kafka:9092")
    with logs_restored():
        alone = join("crm")
    assert (alone.bootstrap_servers, alone.topic_prefix, alone.ops_port) == ("kafka:9092", "", 9090)


def test_with_neither_it_is_said_what_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RINGLOG_DATA_DIR", str(tmp_path))
    with logs_restored(), pytest.raises(SettingsError, match="KAFKA_BOOTSTRAP_SERVERS is not set"):
        join("crm").bootstrap_servers  # noqa: B018 - what a process asks for first


def test_a_reader_who_has_seen_enough_is_no_failure_to_be_told(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(BrokenPipeError), explained():
        raise BrokenPipeError
    assert capsys.readouterr().err == ""
