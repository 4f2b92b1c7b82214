"""Whether a spool is what was written: `python -m service.journal.check DIRECTORY`.

A process of its own: LMDB trusts its file, and a damaged one can kill whoever reads it. First the pages are walked
without LMDB, those that are free too: a page that is in use and listed as free would be overwritten later. Then every
event is read through LMDB, as the spool will.

Exit code 0: sound. `DAMAGED`: what is wrong stands in the output. Any other: it could not be checked, which says
nothing about the spool.
"""

import errno
import sys
from pathlib import Path

import lmdb
from lmdb.verify import VerifyError, verify

from service.journal.layout import DATA_FILE, check_marks, mark_of, open_databases
from service.journal.sealed import key_of, unseal
from service.journal.spool_errors import SpoolDamaged

DAMAGED = 3

# Of the disk: a block that can't be read is damage, a file that we may not open is not.
_UNREADABLE = (errno.EIO, errno.EBADMSG, errno.EUCLEAN)


def check(directory: Path) -> None:
    """Raises `SpoolDamaged`, or `OSError` when it can't be told."""
    file = directory / DATA_FILE
    if not file.stat().st_size:
        return  # killed while it was made
    try:
        problems: list[str] = verify(str(file), subdir=False)  # type: ignore[no-untyped-call]
    except VerifyError as error:
        raise SpoolDamaged(str(error)) from error
    if problems:
        raise SpoolDamaged(f"{problems[0]} ({len(problems)} problems)")
    with lmdb.open(str(directory), readonly=True, lock=False, max_dbs=2, map_size=file.stat().st_size) as env:
        check_marks(file, env.stat()["psize"])
        if env.info()["last_txnid"]:
            _read_all(env)


def _read_all(env: lmdb.Environment) -> None:
    databases = open_databases(env)
    with env.begin(buffers=True) as tx:
        next_seq = mark_of(tx).next_seq
        for database in databases:
            for key, value in tx.cursor(db=database):
                event = unseal(value)
                if key_of(event) != key:
                    raise SpoolDamaged(f"event {event.seq} lies where another one should")
                if event.seq >= next_seq:
                    raise SpoolDamaged(f"event {event.seq} is newer than the last commit")


def main(directory: str) -> int:
    try:
        check(Path(directory))
    except MemoryError:
        raise
    except OSError as error:
        if error.errno not in _UNREADABLE:
            raise
        return _damaged(error)
    except Exception as error:  # whatever damage does to those who read it
        return _damaged(error)
    return 0


def _damaged(error: Exception) -> int:
    sys.stdout.write(f"{error or type(error).__name__}\n")
    return DAMAGED


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
