"""A new spool out of what is found in a damaged one."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import lmdb
import msgspec

from schemas.topics import CALLERS_FACTS
from service.journal.layout import Databases, open_databases, put_mark
from service.journal.salvage import frame_at, frames_in
from service.journal.sealed import SealedEvent, key_of, seal, seq_key, unseal

_TRANSACTION_BYTES = 4 * 1024 * 1024  # LMDB has what a transaction changes in memory

# Events come in the order of the old file, and such a tree may be half empty.
_MAP_FACTOR = 3
_MAP_SPARE_BYTES = 64 * 1024 * 1024


class Restored(NamedTuple):
    """How many are in the new spool, and how many facts of callers were found and are not."""

    events: int
    facts: int


def restore(file: Path, directory: Path) -> Restored:
    """Makes a spool in the empty `directory`, on the disk when it returns. Raises `OSError` or `lmdb.Error`.

    Numbers stay, so the order does. When two events have one number (a commit was never finished, and its numbers
    were used again), the later found gets a new one, at the end. What was deleted and is found comes again: the same
    event, with the same id. Not so a fact of a caller: an old one would undo a newer one.
    """
    size = file.stat().st_size if file.is_file() else 0
    map_bytes = size * _MAP_FACTOR + _MAP_SPARE_BYTES
    # Synced once, at its end: until then nobody opens it.
    with lmdb.open(str(directory), map_size=map_bytes, max_dbs=2, lock=False, sync=False, mode=0o600) as env:
        restoration = _Restoration(env)
        if size:
            restoration.run(file)
        env.sync(True)
        return restoration.result()


class _Restoration:
    def __init__(self, env: Any) -> None:
        self._env = env
        self._databases: Databases = open_databases(env)
        self._next_seq = 1
        self._facts: set[int] = set()
        self._homeless: list[int] = []  # where the frames begin whose number another one has

    def run(self, file: Path) -> None:
        for batch in _batches(frames_in(file)):
            with self._env.begin(write=True) as tx:
                for at, frame in batch:
                    self._put(tx, at, frame)
                put_mark(tx, self._next_seq)
        for at in self._homeless:
            with self._env.begin(write=True) as tx:
                event = msgspec.structs.replace(unseal(frame_at(file, at)), seq=self._next_seq)
                self._next_seq += 1
                tx.put(key_of(event), seal(event), db=self._home(event))
                put_mark(tx, self._next_seq)

    def result(self) -> Restored:
        with self._env.begin() as tx:
            events = sum(tx.stat(db)["entries"] for db in (self._databases.waiting, self._databases.refused))
        return Restored(events, len(self._facts))

    def _put(self, tx: Any, at: int, frame: bytes) -> None:
        event = unseal(frame)
        self._next_seq = max(self._next_seq, event.seq + 1)
        if event.topic == CALLERS_FACTS.name:
            self._facts.add(event.seq)
            return
        there = self._of_number(tx, event.seq)
        if there is not None and _bare(there) != _bare(event):
            self._homeless.append(at)
        elif there is None or there.refused_at < event.refused_at:
            key = key_of(event)
            tx.delete(key, db=self._databases.waiting)
            tx.put(key, frame, db=self._home(event))

    def _home(self, event: SealedEvent) -> Any:
        return self._databases.refused if event.refused_at else self._databases.waiting

    def _of_number(self, tx: Any, seq: int) -> SealedEvent | None:
        for db in self._databases:
            cursor = tx.cursor(db=db)
            if cursor.set_range(seq_key(seq)) and cursor.key().startswith(seq_key(seq)):
                return unseal(cursor.value())
        return None


def _bare(event: SealedEvent) -> SealedEvent:
    return msgspec.structs.replace(event, reason="", refused_at=0)


def _batches(frames: Iterable[tuple[int, bytes]]) -> Iterator[list[tuple[int, bytes]]]:
    batch, size = [], 0
    for at, frame in frames:
        batch.append((at, frame))
        size += len(frame)
        if size >= _TRANSACTION_BYTES:
            yield batch
            batch, size = [], 0
    yield batch
