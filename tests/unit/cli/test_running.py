"""What runs here is found by one file."""

from pathlib import Path

import pytest

from cli.running import FILE_NAME, NotRunning, Running, find

RUNNING = Running(
    bootstrap_servers="127.0.0.1:9092",
    webhooks_url="http://127.0.0.1:8080",
    ops_url="http://127.0.0.1:9090",
    database_url="sqlite:////data/ringlog.db",
    recordings_url="file:///data/recordings",
    state_dir="/data/state",
    webhook_key="the-key",
    pids={"serve": 7},
    simulator="127.0.0.1:8099",
)


def test_what_was_written_is_found(tmp_path: Path) -> None:
    RUNNING.write(tmp_path)
    assert find(tmp_path) == RUNNING


def test_the_file_holds_a_secret_and_is_for_its_owner_only(tmp_path: Path) -> None:
    assert RUNNING.write(tmp_path).stat().st_mode & 0o777 == 0o600


def test_a_missing_file_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(NotRunning, match="run `ringlog up` first"):
        find(tmp_path)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"webhooks_url": 5}', b"\xff"])
def test_a_file_that_is_none_of_ours_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / FILE_NAME).write_bytes(content)
    with pytest.raises(NotRunning, match=r"up\.json can't be read"):
        find(tmp_path)


def test_keys_of_a_newer_version_do_no_harm(tmp_path: Path) -> None:
    path = RUNNING.write(tmp_path)
    path.write_bytes(path.read_bytes().replace(b"{", b'{"new": [1], ', 1))
    assert find(tmp_path).webhook_key == "the-key"
