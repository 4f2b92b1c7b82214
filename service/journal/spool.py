"""The spool: events on our own disk, fsynced, until Kafka takes them."""

import functools
import itertools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import lmdb
import msgspec

from runtime.clock import Clock, system_clock
from schemas.partition import murmur2
from schemas.topics import CATALOGUE
from service.journal.entry import Entry
from service.journal.layout import DATA_FILE, mark_of, open_databases, put_mark
from service.journal.room import Room
from service.journal.sealed import SealedEvent, key_of, parts_of, seal, seq_key, unseal
from service.journal.spool_errors import SpoolBusy, SpoolDamaged, SpoolFull, meaning
from service.journal.spool_files import SetAside, make_anew, prepare, sync_directory
from service.journal.spool_lock import SpoolLock

__all__ = ["Refused", "SetAside", "Spool", "SpoolBusy", "SpoolDamaged", "SpoolFull", "Waiting"]

# Address space, not disk. An event of a little over 2 kB takes a page of 4 KiB, and the tree wants some. Never less
# than what is there wants: the size is a setting, and a spool that was restored may be larger than it was.
_MAP_FACTOR = 2
_MAP_SPARE_BYTES = 64 * 1024 * 1024

# LMDB never makes its file smaller. One that is empty when it is opened and larger than this is made anew.
_KEPT_WHEN_EMPTY_BYTES = 64 * 1024 * 1024

_KEYS_A_LOOK = 1000  # no transaction is open while somebody else works
_REFUSED_A_COMMIT = 100

_MAX_REASON_CHARACTERS = 1000

_TOPICS = {topic.name: topic for topic in CATALOGUE}
_KNOWN = tuple(name.encode() for name in _TOPICS)  # with which nearly every key ends


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


class Spool:
    """Opens the spool in `directory`, or makes one. Every method blocks on the disk: one thread at a time.

    `set_aside` says what happened when what was there turned out to be damaged. Raises `SpoolBusy`, `SpoolFull`,
    `OSError` or `lmdb.Error` (disk, rights): then nothing has changed, and it may be tried again.
    """

    next_seq: int  # the first number that no event has had
    _room: Room

    def __init__(self, directory: Path, max_bytes: int, clock: Clock = system_clock) -> None:
        self._directory = directory
        self._clock = clock
        self._lock = SpoolLock(directory)
        try:
            with meaning(directory):
                self.set_aside = prepare(directory, clock)
                self._open(max_bytes)
            self._refuse_unknown()
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

        def change(tx: Any) -> None:
            if frames:
                self._room.make(tx, self._databases, (len(frame) for _, frame in frames))
            for key, frame in frames:
                tx.put(key, frame, db=self._waiting)
            for seq in delete:
                if (found := self._key(tx, seq)) is not None:
                    tx.delete(found, db=self._waiting)
            for seq, reason in refuse:
                self._refuse(tx, seq, reason)

        try:
            self._write(change, next_seq)
        except SpoolFull as error:
            if not isinstance(error.__cause__, lmdb.Error):
                raise
            # LMDB does not use what the last commit has freed: another commit makes it free indeed.
            self._write(lambda tx: None, self.next_seq)
            self._write(change, next_seq)

    def prove_room(self, size: int) -> None:
        """Of so many bytes, by a commit without an event. Raises as `commit` does when there is none."""
        self._write(lambda tx: self._room.make(tx, self._databases, (size,)), self.next_seq)

    def read(self, seqs: Sequence[int]) -> list[Entry]:
        """In the order asked for. Raises `SpoolDamaged`, also when one is not there."""
        with self._transaction() as tx:
            return [_entry(self._event(tx, seq)) for seq in seqs]

    def readmit(self) -> int:
        """Everything refused waits again, behind what waits now. How many. Raises as `commit` does.

        What has a topic that is not in the catalogue stays.
        """
        keys = [key for found in self._looks(self._refused) for key, _ in found if parts_of(key)[2] in _TOPICS]
        for key in keys:
            self._write(functools.partial(self._readmit, key), self.next_seq + 1)
        return len(keys)

    def close(self) -> None:
        self._room.close()
        self._env.close()
        self._lock.release()

    def _open(self, max_bytes: int) -> None:
        """What `prepare` found to be sound."""
        file = self._directory / DATA_FILE
        there = file.stat().st_size if file.exists() else 0
        map_bytes = max(max_bytes, there) * _MAP_FACTOR + _MAP_SPARE_BYTES
        # Without LMDB's own lock: nobody else opens it, and a file less can be damaged.
        self._env = lmdb.open(str(self._directory), map_size=map_bytes, max_dbs=2, lock=False, mode=0o600)
        try:
            self._databases = self._waiting, self._refused = open_databases(self._env)
            with self._env.begin() as tx:
                self.next_seq = mark_of(tx).next_seq
                is_empty = not any(tx.stat(database)["entries"] for database in self._databases)
            self._room = Room(file, self._env)
        except BaseException:
            self._env.close()
            raise
        sync_directory(self._directory)
        if is_empty and there > _KEPT_WHEN_EMPTY_BYTES:
            self._room.close()
            self._env.close()
            make_anew(self._directory)
            self._open(max_bytes)

    def _refuse_unknown(self) -> None:
        """What a ringlog of another version left: nobody here could publish it, and it must not be lost."""
        keys = [key for found in self._looks(self._waiting) for key, _ in found if not key.endswith(_KNOWN)]
        places = [parts_of(key) for key in keys]
        unknown = [(seq, f"there is no topic {topic}") for seq, _, topic in places if topic not in _TOPICS]
        for start in range(0, len(unknown), _REFUSED_A_COMMIT):
            self.commit(refuse=unknown[start : start + _REFUSED_A_COMMIT])

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
        refused = msgspec.structs.replace(event, reason=text, refused_at=self._clock())
        key = key_of(event)
        tx.put(key, seal(refused), db=self._refused)
        tx.delete(key, db=self._waiting)

    def _readmit(self, key: bytes, tx: Any) -> None:
        refused = unseal(tx.get(key, db=self._refused))
        event = msgspec.structs.replace(refused, seq=self.next_seq, reason="", refused_at=0)
        frame = seal(event)
        self._room.make(tx, self._databases, (len(frame),))
        tx.put(key_of(event), frame, db=self._waiting)
        tx.delete(key, db=self._refused)

    def _write(self, change: Callable[[Any], None], next_seq: int) -> None:
        with self._transaction(write=True) as tx:
            change(tx)
            put_mark(tx, next_seq)
        self.next_seq = next_seq

    @contextmanager
    def _transaction(self, **options: Any) -> Iterator[Any]:
        with meaning(self._directory), self._env.begin(**options) as tx:
            yield tx


def _sealed_event(seq: int, entry: Entry) -> SealedEvent:
    return SealedEvent(
        seq=seq,
        hash=murmur2(entry.partition_by),
        topic=entry.topic.name,
        partition_by=entry.partition_by,
        key=entry.key,
        value=entry.value,
        headers=list(entry.headers),
    )


def _entry(event: SealedEvent) -> Entry:
    return Entry(_TOPICS[event.topic], event.partition_by, event.key, event.value, event.headers)
