"""The secrets of `ringlog up`: made once, kept, for their owner only."""

from pathlib import Path

import pytest

from cli.secrets import FILE_NAME, make_secrets, read_secrets


def test_they_are_made_once_and_are_the_same_tomorrow(tmp_path: Path) -> None:
    assert read_secrets(tmp_path) is None
    made = make_secrets(tmp_path)
    assert make_secrets(tmp_path) == read_secrets(tmp_path) == made
    assert len({made.identity_key, made.webhook_key, made.ops_key}) == 3
    assert min(map(len, (made.identity_key, made.webhook_key, made.ops_key))) >= 32


def test_they_are_for_their_owner_only_whatever_a_killed_process_left(tmp_path: Path) -> None:
    left = (tmp_path / FILE_NAME).with_suffix(".new")
    left.write_text("half")
    left.chmod(0o666)
    make_secrets(tmp_path)
    assert (tmp_path / FILE_NAME).stat().st_mode & 0o777 == 0o600
    assert [path.name for path in tmp_path.iterdir()] == [FILE_NAME]


def test_what_can_t_be_read_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).write_text("{")
    with pytest.raises(ValueError, match=r"the callers in .* can't be found again"):
        make_secrets(tmp_path)
    assert (tmp_path / FILE_NAME).read_text() == "{"
