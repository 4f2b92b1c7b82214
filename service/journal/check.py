"""Whether a spool is what was written: `python -m service.journal.check DIRECTORY`.

A process of its own: where the disk can't read, whoever has mapped the file is killed; and a large spool takes seconds
which the service has other use for. Every page and every event is looked at, without LMDB.

Exit code 0: sound. `DAMAGED`: what is wrong stands in the output. Any other: it could not be checked, which says
nothing about the spool.
"""

import errno
import gc
import mmap
import sys
from pathlib import Path

from service.journal.layout import DATA_FILE, DATABASES, MARK_KEY, check_marks, unpack_mark
from service.journal.sealed import check as check_event
from service.journal.sealed import parts_of
from service.journal.spool_errors import SpoolDamaged
from service.journal.tree import Database, Tree, database_of

DAMAGED = 3

# Of the disk: a block that can't be read is damage, a file that we may not open is not.
_UNREADABLE = (errno.EIO, errno.EBADMSG, errno.EUCLEAN)


def check(directory: Path) -> None:
    """Raises `SpoolDamaged`, or `OSError` when it can't be told; and whatever damage does to those who read it."""
    file = directory / DATA_FILE
    if not file.stat().st_size:
        return  # killed while it was made
    with file.open("rb") as opened:
        tree = Tree(memoryview(mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ)))
    check_marks(file, tree.page_bytes)
    if tree.commit:
        _read_all(tree)
    tree.finish()


def _read_all(tree: Tree) -> None:
    databases: dict[bytes, Database] = {}
    mark = b""
    for key, value, is_database in tree.items(tree.unnamed):
        if is_database:
            databases[key] = database_of(value)
        elif key == MARK_KEY:
            mark = bytes(value)
    if set(databases) != set(DATABASES):
        raise SpoolDamaged(f"it holds {sorted(databases)}, not {sorted(DATABASES)}")
    next_seq = unpack_mark(mark).next_seq
    for database in databases.values():
        key = b""
        for key, value, _ in tree.items(database):
            check_event(key, value)
        if key and parts_of(key)[0] >= next_seq:  # the last in order
            raise SpoolDamaged("an event is newer than the last commit")


def main(directory: str) -> int:
    gc.disable()  # it makes nothing that refers to itself
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
