"""Room on the disk of the state directory, for a store more beside what must always find some."""

import shutil
from pathlib import Path

from state.layout import DATA_FILE  # LMDB's own name for it: the spool is one of its files, too

# The share by which a store is taken to grow while it is copied, or beyond what it is an estimate for. A guess: how
# much comes in, nobody knows, and for so long its builder can't use freed pages again.
_GROWTH = 10

# The hundredth part of what is free makes no disk full, so nobody need be kept from a look into a small store.
_LITTLE = 100


class NoRoom(OSError):
    """The text is a sentence: how much is needed, how much is free, and what to do."""


class Room:
    """On the disk of `folder`, where the spool may lie, too, and find all that it may take.

    Without it, an end of call would be refused while Kafka is away. A `spool` that is not there is nobody's, and one on
    another disk has nothing to fear from us. Everything blocks on the disk, and raises `OSError`.
    """

    def __init__(self, folder: Path, spool: Path, spool_max_bytes: int) -> None:
        self.folder = folder
        self._spool = spool
        self._spool_max_bytes = spool_max_bytes

    def demand(self, what: str, size: int, *, spare: bool = True) -> None:
        """Raises `NoRoom` unless `size` bytes more can lie there, beside the `spare` ones for spool and store.

        `what` is what needs them, and begins the sentence.
        """
        free = shutil.disk_usage(self.folder).free
        spool = self._spool_may_take() if spare else 0
        spared = spool + size // _GROWTH if spare else 0
        if size <= free // _LITTLE or size + spared <= free:
            return
        beside = f", and {_text(spared)} beside it that the spool and the builder may need" if spared else ""
        raise NoRoom(
            f"{what} needs {_text(size)}{beside}, and the disk of {self.folder} has {_text(free)} free: make room"
            f" there, or give it a larger disk{', or the spool less (RINGLOG_SPOOL_MAX_BYTES)' if spool else ''}."
        )

    def shares_disk_with(self, path: Path) -> bool:
        return path.stat().st_dev == self.folder.stat().st_dev

    def _spool_may_take(self) -> int:
        try:
            if not self.shares_disk_with(self._spool):
                return 0
            taken = (self._spool / DATA_FILE).stat().st_blocks * 512  # whatever the size of the disk's own blocks
        except FileNotFoundError:
            return 0
        return max(0, self._spool_max_bytes - taken)


def _text(size: int) -> str:
    """Of megabytes: `6,291.5 MB`."""
    return f"{size / 1e6:,.1f} MB"
