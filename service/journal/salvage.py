"""What can still be found in a damaged data file, whatever became of the tree that led there.

Never through LMDB, and with little memory: the file is read from one end to the other, frame by frame. What was
deleted is found too, as long as its page was not used again.
"""

import errno
import os
from collections.abc import Iterator
from pathlib import Path

from service.journal.sealed import HEADER_BYTES, MAGIC, length_of_frame, unseal
from service.journal.spool_errors import SpoolDamaged

_CHUNK_BYTES = 1024 * 1024

# What is skipped where the disk can't read: a sector of today's disks.
_BLOCK_BYTES = 4096


def frames_in(file: Path) -> Iterator[tuple[int, bytes]]:
    """Where each frame begins that is whole, and its bytes. Some are found more than once. Raises `OSError`."""
    with file.open("rb", buffering=0) as opened:
        descriptor = opened.fileno()
        end = os.fstat(descriptor).st_size
        at = 0
        while at < end:
            chunk = _read(descriptor, _CHUNK_BYTES, at)
            if chunk is None:
                at += _BLOCK_BYTES - at % _BLOCK_BYTES
                continue
            # What begins in its last bytes is looked for again.
            next_at = at + max(len(chunk) - len(MAGIC) + 1, len(MAGIC))
            found = chunk.find(MAGIC)
            while found >= 0:
                frame = _frame(descriptor, at + found)
                if frame is not None:
                    yield at + found, frame
                found += len(frame or MAGIC)
                next_at = max(next_at, at + found)
                found = chunk.find(MAGIC, found)
            at = next_at


def frame_at(file: Path, at: int) -> bytes:
    """One that was found there. Raises `OSError`, also when it can't be read again."""
    with file.open("rb", buffering=0) as opened:
        frame = _frame(opened.fileno(), at)
    if frame is None:
        raise OSError(errno.EIO, f"what was read at {at} can't be read again", str(file))
    return frame


def _frame(descriptor: int, at: int) -> bytes | None:
    length = length_of_frame(_read(descriptor, HEADER_BYTES, at) or b"")
    frame = None if length is None else _read(descriptor, length, at)
    if frame is None:
        return None
    try:
        unseal(frame)
    except SpoolDamaged:
        return None
    return frame


def _read(descriptor: int, length: int, at: int) -> bytes | None:
    """None where the disk can't. Fewer bytes at the end of the file. Raises `OSError`."""
    try:
        return os.pread(descriptor, length, at)
    except OSError as error:
        if error.errno == errno.EIO:
            return None
        raise
