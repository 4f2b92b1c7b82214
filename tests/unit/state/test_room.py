"""Who may put another store on the disk, and who is told that there is no room."""

import shutil
from pathlib import Path

import pytest

from state.room import NoRoom, Room
from tests.faults.small_disk import small_disk

GB = 10**9


@pytest.fixture
def free(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """What the disk has free, in its only item."""
    found = [0]
    usage = shutil.disk_usage("/")
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: usage._replace(free=found[0]))
    return found


def spool_in(folder: Path, size: int = 0) -> Path:
    """That holds so much."""
    spool = folder / "spool"
    spool.mkdir()
    (spool / "data.mdb").write_bytes(b"x" * size)
    return spool


def is_let_in(room: Room, size: int, *, spare: bool = True) -> bool:
    try:
        room.demand("A copy", size, spare=spare)
    except NoRoom:
        return False
    return True


def test_what_a_builder_and_the_spool_may_need_must_stay_free(free: list[int], tmp_path: Path) -> None:
    room = Room(tmp_path, spool_in(tmp_path), GB)
    free[0] = 6 * GB + 6 * GB // 10 + GB
    assert is_let_in(room, 6 * GB)
    free[0] -= 1
    assert not is_let_in(room, 6 * GB)
    assert is_let_in(room, 6 * GB, spare=False)
    free[0] = 6 * GB - 1
    assert not is_let_in(room, 6 * GB, spare=False)


def test_what_the_spool_holds_is_not_asked_for_again(free: list[int], tmp_path: Path) -> None:
    room = Room(tmp_path, spool_in(tmp_path, 2**20), 2**20)
    free[0] = 1100
    assert is_let_in(room, 1000)


def test_spool_that_is_not_there_or_on_another_disk_needs_nothing(free: list[int], tmp_path: Path) -> None:
    free[0] = 1100
    assert is_let_in(Room(tmp_path, tmp_path / "spool", GB), 1000)
    with small_disk(1) as elsewhere:
        assert is_let_in(Room(tmp_path, spool_in(elsewhere.path), GB), 1000)


def test_what_is_little_is_let_in_whatever_the_spool_may_need(free: list[int], tmp_path: Path) -> None:
    room = Room(tmp_path, spool_in(tmp_path), GB)
    free[0] = GB // 2
    assert is_let_in(room, GB // 200)
    assert not is_let_in(room, GB // 200 + 1)


def test_refusal_has_both_numbers_and_says_what_to_do(free: list[int], tmp_path: Path) -> None:
    free[0] = 4 * GB
    with pytest.raises(NoRoom) as raised:
        Room(tmp_path, spool_in(tmp_path), GB).demand("A copy of the state store", 6 * GB)
    assert str(raised.value) == (
        "A copy of the state store needs 6,000.0 MB, and 1,600.0 MB beside it that the spool and the builder may need,"
        f" and the disk of {tmp_path} has 4,000.0 MB free: make room there, or give it a larger disk,"
        " or the spool less (RINGLOG_SPOOL_MAX_BYTES)."
    )
