"""The spool: events on our own disk, fsynced, until Kafka takes them."""

import errno
import itertools
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import lmdb

from runtime.clock import Clock, system_clock
from schemas.topics import CATALOGUE
from service.journal.entry import Entry
from service.journal.sealed import SealedEvent, SpoolDamaged, key_of, parts_of, seal, seq_key, unseal
from service.journal.spool_lock import SpoolBusy, SpoolLock

__all__ = ["Refused", "SetAside", "Spool", "SpoolBusy", "SpoolDamaged", "SpoolFull", "Waiting"]

WAITING = b"waiting"  # key of an event -> sealed event
REFUSED = b"refused"  # the same, of those that Kafka goes on refusing
NEXT_SEQ_KEY = b"next-seq"

# Address space, not disk. An event of a little over 2 kB takes a page of 4 KiB, and the tree wants some.
_MAP_FACTOR = 2
_MAP_SPARE_BYTES = 64 * 1024 * 1024

_KEYS_A_LOOK = 1000  # of `waiting`: no transaction lasts while somebody else works

_MAX_REASON_CHARACTERS = 1000

_TOPICS = {topic.name: topic for topic in CATALOGUE}

_DAMAGE = (
    lmdb.CorruptedError,
    lmdb.InvalidError,
    lmdb.PageNotFoundError,
    lmdb.VersionMismatchError,
    lmdb.PanicError,
    lmdb.IncompatibleError,
    lmdb.ProblemError,
    lmdb.CursorFullError,
)


class SpoolFull(RuntimeError):
    """The disk is full, or the spool as large as it may be. Nothing of the commit is stored; the spool stays usable."""


class Waiting(NamedTuple):
    """`topic` is the catalogue's name, `hash` the murmur2 of what decides the partition, `size` in bytes as stored."""

    seq: int
    topic: str
    hash: int
    size: int


class Refused(NamedTuple):
    """`refused_at` in microseconds since the epoch, `size` in bytes as stored."""

    seq: int
    topic: str
    reason: str
    refused_at: int
    size: int


class SetAside(NamedTuple):
    """A damaged spool: where it lies now, how we know, and how many events of it wait again in the new one.

    `facts` were found and not restored: an old one would undo a newer one.
    """

    path: Path
    reason: str
    restored: int
    facts: int


class Spool:
    """Opens the spool in `directory`, or makes one. Every method blocks on the disk: one thread at a time."""

    set_aside: SetAside | None = None
    next_seq: int

    def __init__(self, directory: Path, max_bytes: int, clock: Clock = system_clock) -> None:
        self._directory = directory
        self._map_bytes = max_bytes * _MAP_FACTOR + _MAP_SPARE_BYTES
        self._clock = clock
        self._lock = SpoolLock(directory)
        try:
            self._open()
        except BaseException:
            self._lock.release()
            raise

    def waiting(self) -> Iterator[Waiting]:
        """All, in the order of their numbers, without reading values. Raises `SpoolDamaged`."""
        for items in self._looks(self._waiting):
            for key, size in items:
                seq, hash_, topic = parts_of(key)
                yield Waiting(seq, topic, hash_, size)

    def refused(self) -> Iterator[Refused]:
        """All, in the order of their numbers. Raises `SpoolDamaged`."""
        for items in self._looks(self._refused):
            for key, size in items:
                with self._transaction() as tx:
                    event = unseal(tx.get(key, db=self._refused))
                yield Refused(event.seq, event.topic, event.reason, event.refused_at, size)

    def commit(
        self,
        put: Sequence[tuple[int, Entry]] = (),
        delete: Sequence[int] = (),
        refuse: Sequence[tuple[int, str]] = (),
    ) -> None:
        """All of it or nothing, on the disk when it returns. What is to be deleted and is not there is no error.

        Raises `SpoolFull`, `SpoolDamaged`, `OSError` or `lmdb.Error`: then nothing of it happened.
        """
        events = [_sealed_event(seq, entry) for seq, entry in put]
        frames = [(key_of(event), seal(event)) for event in events]
        next_seq = max([self.next_seq, *(seq + 1 for seq, _ in put)])
        with self._transaction(write=True) as tx:
            for key, frame in frames:
                tx.put(key, frame, db=self._waiting)
            for seq in delete:
                if (found := self._key(tx, seq)) is not None:
                    tx.delete(found, db=self._waiting)
            for seq, reason in refuse:
                self._refuse(tx, seq, reason)
            tx.put(NEXT_SEQ_KEY, b"%d" % next_seq)
        self.next_seq = next_seq

    def read(self, seqs: Sequence[int]) -> list[Entry]:
        """In the order asked for. Raises `SpoolDamaged`, also when one is not there."""
        with self._transaction() as tx:
            return [_entry(self._event(tx, seq)) for seq in seqs]

    def readmit(self) -> int:
        """Everything refused waits again, behind what waits now. How many. Raises as `commit` does."""
        keys = [key for items in self._looks(self._refused) for key, _ in items]
        for key in keys:
            with self._transaction(write=True) as tx:
                event = unseal(tx.get(key, db=self._refused))
                again = SealedEvent(**{**_fields(event), "seq": self.next_seq, "reason": "", "refused_at": 0})
                tx.put(key_of(again), seal(again), db=self._waiting)
                tx.delete(key, db=self._refused)
                tx.put(NEXT_SEQ_KEY, b"%d" % (self.next_seq + 1))
            self.next_seq += 1
        return len(keys)

    def close(self) -> None:
        self._env.close()
        self._lock.release()

    def _open(self) -> None:
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        # Without LMDB's own lock: nobody else opens it, and a file less can be damaged.
        self._env = lmdb.open(str(self._directory), map_size=self._map_bytes, max_dbs=2, lock=False, mode=0o600)
        with self._transaction(write=True) as tx:
            self._waiting = self._env.open_db(WAITING, txn=tx)
            self._refused = self._env.open_db(REFUSED, txn=tx)
            self.next_seq = int(tx.get(NEXT_SEQ_KEY, b"1"))

    def _looks(self, database: Any) -> Iterator[list[tuple[bytes, int]]]:
        """Keys and sizes of values, some at a time: no transaction is open while the caller has them."""
        start = b"\0"
        while True:
            with self._transaction(buffers=True) as tx:
                cursor = tx.cursor(db=database)
                items = cursor.iternext() if cursor.set_range(start) else ()
                found = [(bytes(key), len(value)) for key, value in itertools.islice(items, _KEYS_A_LOOK)]
            if not found:
                return
            yield found
            start = found[-1][0] + b"\0"

    def _key(self, tx: Any, seq: int) -> bytes | None:
        cursor = tx.cursor(db=self._waiting)
        prefix = seq_key(seq)
        if not cursor.set_range(prefix):
            return None
        key: bytes = cursor.key()
        return key if key.startswith(prefix) else None

    def _event(self, tx: Any, seq: int) -> SealedEvent:
        key = self._key(tx, seq)
        if key is None:
            raise SpoolDamaged(f"event {seq} is not in the spool")
        event = unseal(tx.get(key, db=self._waiting))
        if key_of(event) != key:
            raise SpoolDamaged(f"event {seq} lies where another one should")
        return event

    def _refuse(self, tx: Any, seq: int, reason: str) -> None:
        """Raises `SpoolDamaged`."""
        event = self._event(tx, seq)
        text = reason[:_MAX_REASON_CHARACTERS].encode(errors="replace").decode()
        refused = SealedEvent(**{**_fields(event), "reason": text, "refused_at": self._clock()})
        key = key_of(event)
        tx.put(key, seal(refused), db=self._refused)
        tx.delete(key, db=self._waiting)

    @contextmanager
    def _transaction(self, **options: Any) -> Iterator[Any]:
        try:
            with self._env.begin(**options) as tx:
                yield tx
        except lmdb.MapFullError as error:
            raise SpoolFull("the spool is as large as it may be") from error
        except _DAMAGE as error:
            raise SpoolDamaged(str(error)) from error
        except lmdb.Error as error:
            if self._is_full(error.code):
                raise SpoolFull(f"no room on the disk for the spool in {self._directory}") from error
            raise

    def _is_full(self, code: int) -> bool:
        """LMDB says `EIO` when a write was cut short, and that is what a full disk does."""
        if code != errno.EIO:
            return code in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
        disk = os.statvfs(self._directory)
        return disk.f_bavail * disk.f_frsize < 1024 * 1024


def _fields(event: SealedEvent) -> dict[str, Any]:
    return {name: getattr(event, name) for name in event.__struct_fields__}


def _sealed_event(seq: int, entry: Entry) -> SealedEvent:
    return SealedEvent(
        seq=seq,
        topic=entry.topic.name,
        partition_by=entry.partition_by,
        key=entry.key,
        value=entry.value,
        headers=list(entry.headers),
    )


def _entry(event: SealedEvent) -> Entry:
    return Entry(_TOPICS[event.topic], event.partition_by, event.key, event.value, event.headers)
