"""The files of a spool: opened only when they are sound, set aside when they are not, never overwritten.

Damage is: a wrong byte, a file cut off within what is in use, a block that the disk can't read, something else in the
file's or the directory's place. Not damage: a file of no length (whoever made it was killed), one that ends within its
free pages, a disk that is full or read-only, missing rights, a check that was killed or took too long: then nothing is
changed, and the error says why.
"""

import os
import shutil
import signal
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from runtime.clock import Clock
from service.journal.check import DAMAGED
from service.journal.layout import DATA_FILE
from service.journal.restored import restore

_ROOT = Path(__file__).resolve().parents[2]  # from where the child finds this package

# Of a check: the start of Python, and what the slowest disk that we know of reads in a second.
_CHECK_START_S = 60
_CHECK_BYTES_A_S = 2 * 1024 * 1024

# With which a damaged file kills its reader. Others come from outside, and say nothing about the file.
_KILLED_BY_DAMAGE = (signal.SIGSEGV, signal.SIGBUS, signal.SIGABRT, signal.SIGFPE, signal.SIGILL)

_MAX_REASON_CHARACTERS = 500


class SetAside(NamedTuple):
    """A damaged spool: where it lies now, how we know, and how many events of it were put into the new one.

    `facts` of callers were found, and not restored: an old one would undo a newer one.
    """

    path: Path
    reason: str
    restored: int
    facts: int


def prepare(directory: Path, clock: Clock) -> SetAside | None:
    """Afterwards `directory` is there and sound, or empty. Blocks for as long as its size takes to read.

    A damaged spool is restored beside itself first, then the two change places: killed at any point, the next who
    opens it goes on or starts over, and nothing is lost. Raises `OSError` (rights, a disk that is full, a check that
    could not be made) and `lmdb.Error`: then nothing has changed.
    """
    restoring = directory.with_name(directory.name + ".restoring")
    if restoring.exists() and not directory.exists():
        _rename(restoring, directory)  # we were killed between the two names
    shutil.rmtree(restoring, ignore_errors=True)
    if not directory.exists():
        directory.mkdir(mode=0o700)
        sync_directory(directory.parent)
    reason = _damage(directory)
    if reason is None:
        return None
    restoring.mkdir(mode=0o700)
    try:
        found = restore(directory / DATA_FILE, restoring)
        sync_directory(restoring)
    except BaseException:
        shutil.rmtree(restoring, ignore_errors=True)
        raise
    path = _aside(directory, clock)
    _rename(directory, path)
    _rename(restoring, directory)
    return SetAside(path, reason, found.events, found.facts)


def make_anew(directory: Path) -> None:
    """Of one that holds nothing."""
    (directory / DATA_FILE).unlink()
    sync_directory(directory)


def sync_directory(directory: Path) -> None:
    """A name that was made or changed survives a crash of the machine only after this."""
    opened = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


def _damage(directory: Path) -> str | None:
    """What is wrong with it. Raises `OSError` when that can't be told."""
    file = directory / DATA_FILE
    if not directory.is_dir() or (file.exists() and not file.is_file()):
        return "there is something else in its place"
    if not file.exists():
        return None
    deadline_s = _CHECK_START_S + file.stat().st_size / _CHECK_BYTES_A_S
    command = [sys.executable, "-m", "service.journal.check", str(directory.resolve())]
    try:
        child = subprocess.run(command, cwd=_ROOT, capture_output=True, timeout=deadline_s, check=False)
    except subprocess.TimeoutExpired as error:
        raise TimeoutError(f"the check of the spool in {directory} took longer than {deadline_s:.0f} s") from error
    if child.returncode == 0:
        return None
    if child.returncode == DAMAGED:
        return child.stdout.decode(errors="replace").strip()[:_MAX_REASON_CHARACTERS]
    if -child.returncode in _KILLED_BY_DAMAGE:
        return f"whoever reads it is killed by {signal.Signals(-child.returncode).name}"
    said = child.stderr.decode(errors="replace").strip().rpartition("\n")[-1][:_MAX_REASON_CHARACTERS]
    raise OSError(f"the spool in {directory} could not be checked (exit code {child.returncode}): {said}")


def _aside(directory: Path, clock: Clock) -> Path:
    """A name that nothing has."""
    now = datetime.fromtimestamp(clock() / 1_000_000, UTC)
    name = f"{directory.name}.damaged-{now:%Y%m%dT%H%M%SZ}"
    path, copies = directory.with_name(name), 1
    while path.exists():
        copies += 1
        path = directory.with_name(f"{name}-{copies}")
    return path


def _rename(old: Path, new: Path) -> None:
    old.rename(new)
    sync_directory(new.parent)
