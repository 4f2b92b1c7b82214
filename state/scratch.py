"""Folders for work on copies of a store, which no death of a process leaves behind for ever."""

import fcntl
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_PREFIX = "scratch-"


@contextmanager
def scratch_in(folder: Path) -> Iterator[Path]:
    """An empty folder of one's own below `folder`, removed at the end of the block.

    Not in the machine's folder for temporary files, which may be small, or in memory: what is made here is as large as
    the store. First removes what processes that were killed have left. Raises `OSError`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for left in folder.glob(f"{_PREFIX}*"):
        _remove_if_left(left)
    own, held = _made_in(folder)
    try:
        yield own
    finally:
        shutil.rmtree(own, ignore_errors=True)
        os.close(held)


def _made_in(folder: Path) -> tuple[Path, int]:
    """A folder, and the file by which it is locked until we are gone, however."""
    while True:
        own = folder / f"{_PREFIX}{secrets.token_hex(4)}"
        own.mkdir()
        held = os.open(own, os.O_RDONLY | os.O_DIRECTORY)
        fcntl.flock(held, fcntl.LOCK_EX)
        if own.exists():
            return own, held
        os.close(held)  # whoever looked for leftovers just then took it for one


def _remove_if_left(folder: Path) -> None:
    with suppress(FileNotFoundError):  # its process has come to its end meanwhile
        held = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            with suppress(BlockingIOError):
                fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder, ignore_errors=True)
        finally:
            os.close(held)
