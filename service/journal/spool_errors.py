"""How a spool fails, and what LMDB's errors mean for it."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import lmdb


class SpoolBusy(RuntimeError):
    """Another process has this spool open."""


class SpoolFull(RuntimeError):
    """The disk is full, or the spool as large as it may be. Nothing of the commit is stored; the spool stays usable."""


class SpoolDamaged(RuntimeError):
    """The spool does not hold what was written. Open it again: it is set aside, and what is sound is restored."""


_DAMAGE = (
    lmdb.BadTxnError,  # what LMDB says of a transaction in which it has met a page that is none
    lmdb.CorruptedError,
    lmdb.CursorFullError,  # a tree that is deeper than any can be
    lmdb.IncompatibleError,
    lmdb.InvalidError,
    lmdb.PageNotFoundError,
    lmdb.PanicError,  # the disk failed while LMDB wrote where a commit begins: only opening it again tells which counts
    lmdb.ProblemError,
    lmdb.VersionMismatchError,
)

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)

# With less on the disk, a write that was cut short is taken for a disk that is full.
_NEXT_TO_NOTHING_BYTES = 1024 * 1024


@contextmanager
def meaning(directory: Path) -> Iterator[None]:
    """Raises `SpoolFull` or `SpoolDamaged` for the errors that mean it; others stay `OSError` and `lmdb.Error`."""
    try:
        yield
    except lmdb.MapFullError as error:
        raise SpoolFull("the spool is as large as it may be") from error
    except _DAMAGE as error:
        raise SpoolDamaged(str(error)) from error
    except (lmdb.Error, OSError) as error:
        if _is_full(error, directory):
            raise SpoolFull(f"the disk has no room for the spool in {directory}") from error
        raise


def _is_full(error: lmdb.Error | OSError, directory: Path) -> bool:
    code = error.code if isinstance(error, lmdb.Error) else error.errno
    if code != errno.EIO:
        return code in FULL
    # LMDB's name for a write that was cut short, and the last one on a disk that gets full is.
    disk = os.statvfs(directory)
    return disk.f_bavail * disk.f_frsize < _NEXT_TO_NOTHING_BYTES
