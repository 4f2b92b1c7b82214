"""A file is there whole, or not at all."""

from pathlib import Path

import pytest

from cli.whole_file import whole_file


def test_a_file_has_its_name_when_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")
    with whole_file(path) as file:
        file.write(b"new")
        file.flush()
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_what_fails_leaves_nothing_and_what_was_there(tmp_path: Path, error: type[BaseException]) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(error), whole_file(path) as file:
        file.write(b"half")
        raise error
    assert [(it.name, it.read_text()) for it in tmp_path.iterdir()] == [("a.txt", "old")]


def test_a_link_stays_one(tmp_path: Path) -> None:
    target, link = tmp_path / "target", tmp_path / "link"
    link.symlink_to(target)
    with whole_file(link) as file:
        file.write(b"x")
    assert (link.is_symlink(), target.read_bytes()) == (True, b"x")


def test_a_name_may_be_as_long_as_names_are(tmp_path: Path) -> None:
    path = tmp_path / ("n" * 250)
    with whole_file(path) as file:
        file.write(b"x")
    assert path.read_bytes() == b"x"
