"""A disk that is full, or read-only: said by name, nothing is lost, and the spool works again when the disk does."""

import errno
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from service.journal.layout import DATA_FILE
from service.journal.spool import Spool, SpoolFull
from tests.unit.service.journal.spooled import MAX_BYTES, fill, numbers, set_aside

ROOT = Path(__file__).parents[4]


class Disk:
    """In memory, of a few megabytes."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.spool = path / "spool"

    def fill(self) -> None:
        """Leaves not one page."""
        try:
            with (self.path / "other").open("ab", buffering=0) as other:
                while True:
                    other.write(b"x" * 4096)
        except OSError as error:
            assert error.errno == errno.ENOSPC

    def free(self) -> None:
        (self.path / "other").unlink()

    def remount(self, how: str) -> None:
        subprocess.run(["mount", "-o", f"remount,{how}", str(self.path)], check=True)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    path = tmp_path / "disk"
    path.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(path)], capture_output=True, text=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"a small disk can't be mounted: {mounted.stderr.strip()}")
    yield Disk(path)
    subprocess.run(["umount", "--lazy", str(path)], check=True)


def _fill_up(spool: Spool, sizes: tuple[int, ...] = (100_000, 3000, 300, 10)) -> list[int]:
    seqs: list[int] = []
    for size in sizes:
        with pytest.raises(SpoolFull, match="no room for the spool"):
            while True:
                seqs += fill(spool, [len(seqs)], size)
    return seqs


@pytest.mark.parametrize("at_once", [1, 10, 1000])
def test_on_a_full_disk_all_that_was_taken_is_there_and_can_be_given_away(disk: Disk, at_once: int) -> None:
    spool = Spool(disk.spool, MAX_BYTES)
    seqs = _fill_up(spool)
    disk.fill()
    assert len(seqs) > 30
    assert numbers(spool) == list(range(len(seqs)))
    with pytest.raises(SpoolFull):
        fill(spool, [1])
    while seqs:
        gone, seqs = seqs[:at_once], seqs[at_once:]
        spool.commit(delete=gone)
    assert numbers(spool) == []
    # What it has freed it can use, though the disk is as full as before.
    fill(spool, range(200))
    assert numbers(spool) == list(range(200))
    spool.close()


def test_a_disk_that_somebody_else_fills_costs_nothing_that_was_taken(disk: Disk) -> None:
    spool = Spool(disk.spool, MAX_BYTES)
    fill(spool, range(10))
    disk.fill()
    kept = list(range(10)) + _fill_on(spool)
    assert numbers(spool) == kept
    disk.free()
    fill(spool, range(1000, 1010))
    assert numbers(spool) == [*kept, *range(1000, 1010)]
    spool.close()


def _fill_on(spool: Spool) -> list[int]:
    taken: list[int] = []
    with pytest.raises(SpoolFull, match="no room for the spool"):
        while True:
            fill(spool, [100 + len(taken)])
            taken.append(100 + len(taken))
    return taken


def test_full_when_it_is_opened_it_can_be_emptied(disk: Disk) -> None:
    spool = Spool(disk.spool, MAX_BYTES)
    seqs = _fill_up(spool)
    disk.fill()
    spool.close()
    again = Spool(disk.spool, MAX_BYTES)
    assert numbers(again) == list(range(len(seqs)))
    again.commit(refuse=[(seqs[0], "no")])
    again.commit(delete=seqs[1:])
    assert numbers(again) == []
    again.close()


def test_a_damaged_spool_on_a_full_disk_stays_as_it_is_until_there_is_room(disk: Disk) -> None:
    spool = Spool(disk.spool, MAX_BYTES)
    fill(spool, range(10))
    spool.close()
    with (disk.spool / DATA_FILE).open("r+b") as file:
        file.write(b"\xff" * 8192)
    damaged = (disk.spool / DATA_FILE).read_bytes()
    disk.fill()
    with pytest.raises(SpoolFull):
        Spool(disk.spool, MAX_BYTES)
    assert (disk.spool / DATA_FILE).read_bytes() == damaged
    assert set_aside(disk.spool) == []
    assert not disk.spool.with_name("spool.restoring").exists()
    disk.free()
    again = Spool(disk.spool, MAX_BYTES)
    assert numbers(again) == list(range(10))
    assert [(path / DATA_FILE).read_bytes() for path in set_aside(disk.spool)] == [damaged]
    again.close()


@pytest.mark.parametrize("is_new", [True, False])
def test_on_a_read_only_disk_it_can_not_be_opened_and_nothing_is_set_aside(disk: Disk, is_new: bool) -> None:
    if not is_new:
        spool = Spool(disk.spool, MAX_BYTES)
        fill(spool, [1, 2])
        spool.close()
    disk.remount("ro")
    with pytest.raises(OSError, match="Read-only file system") as raised:
        Spool(disk.spool, MAX_BYTES)
    assert raised.value.errno == errno.EROFS
    disk.remount("rw")
    again = Spool(disk.spool, MAX_BYTES)
    assert numbers(again) == ([] if is_new else [1, 2])
    assert set_aside(disk.spool) == []
    again.close()


LIMITED = """
import resource, sys
from pathlib import Path
from service.journal.spool import Spool, SpoolFull
from tests.unit.service.journal.spooled import MAX_BYTES, fill, numbers

spool = Spool(Path(sys.argv[1]), MAX_BYTES)
resource.setrlimit(resource.RLIMIT_FSIZE, (2 << 20, 2 << 20))
taken = []
try:
    while True:
        taken += fill(spool, [len(taken)])
except SpoolFull as error:
    print(error)
assert numbers(spool) == list(range(len(taken))) and len(taken) > 100, len(taken)
spool.commit(delete=taken)
fill(spool, [7])
assert numbers(spool) == [7]
"""


def test_a_limit_on_the_size_of_files_is_a_full_disk(directory: Path) -> None:
    """Needs no mount: as with a quota, and as whoever."""
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, str(directory)], capture_output=True, text=True, cwd=ROOT, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"the disk has no room for the spool in {directory}\n"
