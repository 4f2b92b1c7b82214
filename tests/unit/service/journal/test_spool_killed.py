"""Killed at any moment, and even when the machine loses its power: what was committed is there, and nothing half."""

import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from service.journal.spool import Spool
from tests.unit.service.journal.spooled import MAX_BYTES, fill, numbers, set_aside

ROOT = Path(__file__).parents[4]

# Puts events and deletes them, and says after each commit which waits and which does not.
COMMITTING = """
import random, sys
from pathlib import Path
from service.journal.spool import Spool
from tests.unit.service.journal.spooled import MAX_BYTES, entry

spool = Spool(Path(sys.argv[1]), MAX_BYTES)
waiting = [one.seq for one in spool.waiting()]
chance = random.Random()
while True:
    seqs = list(range(spool.next_seq, spool.next_seq + chance.choice((1, 3, 40))))
    gone = chance.sample(waiting, min(len(waiting), chance.choice((0, 2, 45))))
    print("try", *seqs, "-", *gone, flush=True)
    spool.commit([(seq, entry(seq, chance.choice((50, 1900, 3000, 20_000)))) for seq in seqs], gone)
    print("done", flush=True)
    waiting = [*(seq for seq in waiting if seq not in gone), *seqs]
"""


def test_killed_at_any_moment_it_has_all_that_was_committed_and_nothing_half(directory: Path) -> None:
    chance = random.Random(1)
    waiting: set[int] = set()
    commits = 0
    for _ in range(6):
        said = _killed_after(directory, chance.uniform(0.0, 0.3))
        spool = Spool(directory, MAX_BYTES)
        there = set(numbers(spool))
        spool.close()
        for line, answer in zip(said[::2], [*said[1::2], None], strict=False):
            put, gone = (set(map(int, part.split())) for part in line.removeprefix("try").split("-"))
            after = (waiting | put) - gone
            # Of the last one nobody was told: it may have happened, but not by half.
            if answer == "done" or there == after:
                waiting = after
                commits += 1
        assert there == waiting
    assert commits > 25
    assert set_aside(directory) == []


def _killed_after(directory: Path, seconds: float) -> list[str]:
    child = subprocess.Popen(
        [sys.executable, "-c", COMMITTING, str(directory)], stdout=subprocess.PIPE, text=True, cwd=ROOT
    )
    assert child.stdout is not None
    first = child.stdout.readline()
    # Read by a thread of its own the pipe would be; it holds 64 KiB, more than the child says in that time.
    time.sleep(seconds)
    child.kill()
    said = (first + child.stdout.read()).splitlines(keepends=True)
    child.stdout.close()
    assert child.wait() < 0, "it was killed, and did not end by itself"
    return [line.strip() for line in said if line.endswith("\n")]


@pytest.fixture
def disk(tmp_path: Path) -> Iterator["Disk"]:
    made = Disk(tmp_path)
    yield made
    made.remove()


class Disk:
    """A file system in a file. What is in that file is what a disk would have when the power fails."""

    def __init__(self, base: Path) -> None:
        self._base = base
        self._image = base / "image"
        with self._image.open("wb") as image:
            image.truncate(32 * 1024 * 1024)
        self._mounts: list[Path] = []
        # It writes by itself every five seconds: too seldom for what we see to be its doing.
        self.path = self._mount(self._image, "mkfs.ext4", "-q", "-F")

    def after_power_failure(self) -> Path:
        """A copy, as the machine finds it when it starts again."""
        copy = self._base / f"image-{len(self._mounts)}"
        copy.write_bytes(self._image.read_bytes())
        return self._mount(copy)

    def remove(self) -> None:
        for path in self._mounts:
            subprocess.run(["umount", str(path)], check=True)

    def _mount(self, image: Path, *make: str) -> Path:
        path = self._base / f"mounted-{len(self._mounts)}"
        path.mkdir()
        steps = [[*make, str(image)]] if make else []
        for command in [*steps, ["mount", "-o", "loop", str(image), str(path)]]:
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                pytest.skip(f"a file system in a file can't be mounted: {done.stderr.strip()}")
        self._mounts.append(path)
        return path


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount")
def test_what_was_committed_is_there_after_a_power_failure(disk: Disk) -> None:
    spool = Spool(disk.path / "data" / "spool", MAX_BYTES)
    try:
        fill(spool, [0, 1], size=2500)
        _assert_there(disk, [0, 1])
        fill(spool, [2])
        spool.commit(delete=[1])
        spool.commit(refuse=[(2, "no")])
        fill(spool, range(3, 100))
        _assert_there(disk, range(2, 100))
    finally:
        spool.close()


def _assert_there(disk: Disk, expected: range | list[int]) -> None:
    directory = disk.after_power_failure() / "data" / "spool"
    assert directory.exists(), "its directory was not on the disk"
    spool = Spool(directory, MAX_BYTES)
    try:
        assert spool.set_aside is None
        assert numbers(spool) == list(expected)
    finally:
        spool.close()
