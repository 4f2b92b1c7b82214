"""Where things lie in a spool, and the mark by which a lost commit is noticed.

LMDB keeps the last two commits: page 0 and page 1 of its file say where each begins, and the one with the higher
number counts. One wrong bit in that number, and the commit before the last would count, sound in itself: what was
acknowledged last would be gone without a trace. So every commit stores its own number, and both must be right.
"""

import os
import struct
import zlib
from pathlib import Path
from typing import Any, NamedTuple

from service.journal.spool_errors import SpoolDamaged

DATA_FILE = "data.mdb"

# One environment, two databases, and in the unnamed one the mark.
_WAITING = b"waiting"  # key of an event -> sealed event
_REFUSED = b"refused"  # the same, of those that Kafka goes on refusing
MARK_KEY = b"mark"

DATABASES = (_WAITING, _REFUSED)

_MAGIC = bytes.fromhex("fbf5fec0fdf9ff86")
_MARK = struct.Struct(">8sQQI")

# LMDB's format, version 1, of a machine with words of 64 bits: mdb.c, `MDB_page` and `MDB_meta`.
_PAGE = struct.Struct("=QHHHH")  # number, pad, flags, lower, upper: its items lie from `upper` on
_META = struct.Struct("=16xIIQQ48sIHHQQQQQQQ")  # `MDB_db` of the free pages, then that of the unnamed database
_NO_ROOT = 2**64 - 1


class Mark(NamedTuple):
    """`commit` is LMDB's number of it, `next_seq` the first number that no event had."""

    commit: int
    next_seq: int


class Databases(NamedTuple):
    """Handles of LMDB's."""

    waiting: Any
    refused: Any


def open_databases(env: Any) -> Databases:
    """Makes them in an environment that is new, in its first commit. Raises `lmdb.Error`."""
    if env.info()["last_txnid"]:
        return Databases(env.open_db(_WAITING, create=False), env.open_db(_REFUSED, create=False))
    with env.begin(write=True) as tx:
        databases = Databases(env.open_db(_WAITING, txn=tx), env.open_db(_REFUSED, txn=tx))
        put_mark(tx, 1)
    return databases


def put_mark(tx: Any, next_seq: int) -> None:
    """In every commit."""
    head = _MARK.pack(_MAGIC, tx.id(), next_seq, 0)[:-4]
    tx.put(MARK_KEY, head + zlib.crc32(head).to_bytes(4, "big"))


def mark_of(tx: Any) -> Mark:
    """Raises `SpoolDamaged`."""
    return unpack_mark(bytes(tx.get(MARK_KEY, b"")))


def check_marks(file: Path, page_bytes: int) -> None:
    """Of the last two commits, without LMDB, which shows the last only. Raises `SpoolDamaged`, or `OSError`."""
    opened = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
    try:
        for slot in (0, 1):
            meta = os.pread(opened, _META.size, slot * page_bytes)
            if len(meta) < _META.size:
                raise SpoolDamaged("its first pages are missing")
            root, _, commit = _META.unpack(meta)[-3:]
            if commit == 0 and root == _NO_ROOT:
                continue  # a new file
            if root == _NO_ROOT or root >= os.fstat(opened).st_size // page_bytes:
                raise SpoolDamaged(f"commit {commit} begins nowhere")
            page = os.pread(opened, page_bytes, root * page_bytes)
            upper = _PAGE.unpack_from(page)[-1]
            found = page.find(_MAGIC, upper)
            if found < 0 or unpack_mark(page[found : found + _MARK.size]).commit != commit:
                raise SpoolDamaged(f"commit {commit} is not the one that was written there")
    finally:
        os.close(opened)


def unpack_mark(packed: bytes) -> Mark:
    """Raises `SpoolDamaged`."""
    if len(packed) < _MARK.size:
        raise SpoolDamaged("the mark of a commit is missing")
    magic, commit, next_seq, checksum = _MARK.unpack(packed[: _MARK.size])
    if magic != _MAGIC or checksum != zlib.crc32(packed[: _MARK.size - 4]):
        raise SpoolDamaged("the mark of a commit is damaged")
    return Mark(commit, next_seq)
