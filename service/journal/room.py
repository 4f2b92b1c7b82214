"""Room made before it is needed: a spool that is full must still be able to give events away.

LMDB writes new pages even to delete. Were the last of the disk, or of the map, filled with events, none could be
deleted again, and what Kafka has long had would be published for ever. So what is put leaves a reserve, which only
deletions use.
"""

import errno
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from service.journal.spool_errors import FULL, SpoolFull

# What the deletion of a thousand events writes: pages of the tree above them, and the list of those that are free.
RESERVE_BYTES = 512 * 1024

# Taken from the disk at once, if it has so much: a file that grows with each commit makes each commit slower.
_STEP_BYTES = 4 * 1024 * 1024

# LMDB's own list of free pages: eight bytes a page, and some room between.
_FREE_PAGES_A_LIST_PAGE = 256

# A file system that can't reserve: there LMDB itself finds out that the disk is full.
_CAN_NOT = (errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS)


class Room:
    """Of the data file of one environment. Blocks on the disk."""

    def __init__(self, file: Path, env: Any) -> None:
        self._env = env
        self._page: int = env.stat()["psize"]
        self._file = os.open(file, os.O_RDWR | os.O_CLOEXEC)
        self._end = os.fstat(self._file).st_size // self._page

    def make(self, tx: Any, databases: Iterable[Any], sizes: Iterable[int]) -> None:
        """For values of these sizes, and the reserve. `databases` are all there are in the environment.

        Raises `SpoolFull` when the map has no such room, `OSError` when the disk has none.
        """
        used = sum(map(_pages_of, (self._env.stat(), *(tx.stat(database) for database in databases))))
        info = self._env.info()
        pages = info["last_pgno"] + 1
        free = pages - used
        free -= free // _FREE_PAGES_A_LIST_PAGE
        needed = sum(size // self._page + 2 for size in sizes) + RESERVE_BYTES // self._page
        new_end = pages + needed - free
        if new_end > info["map_size"] // self._page:
            raise SpoolFull("the spool is as large as it may be")
        if new_end > self._end:
            self._take(new_end - self._end)

    def close(self) -> None:
        os.close(self._file)

    def _take(self, pages: int) -> None:
        step = max(pages, _STEP_BYTES // self._page)
        try:
            self._allocate(step)
        except OSError as error:
            if error.errno not in FULL or step == pages:
                raise
            self._allocate(pages)

    def _allocate(self, pages: int) -> None:
        try:
            os.posix_fallocate(self._file, self._end * self._page, pages * self._page)
        except OSError as error:
            if error.errno not in _CAN_NOT:
                raise
        self._end += pages


def _pages_of(stat: dict[str, int]) -> int:
    return stat["branch_pages"] + stat["leaf_pages"] + stat["overflow_pages"]
