"""A generation of the state store that is open for reading."""

import contextlib
import math
from pathlib import Path
from typing import Any, NamedTuple

import lmdb
import msgspec

from schemas.topics import CALLERS_FACTS, CALLS_ENDED
from state.layout import (
    ABOUT_KEY,
    DAMAGE_MARK,
    DATA_FILE,
    FORMAT_KEY,
    META,
    PROFILES,
    About,
    Damaged,
    UnknownFormat,
    check_format,
    check_length,
    position_key,
    positions_of,
    unseal,
)
from state.profile import Profile

# What a read can end with when the file is not what it should be, is gone, or the slots of readers are all taken.
FAILURES = (lmdb.Error, msgspec.DecodeError, ValueError, OSError, RecursionError, Damaged, UnknownFormat)

DAMAGE = (Damaged, msgspec.DecodeError, lmdb.CorruptedError, lmdb.PageNotFoundError)

_decode = msgspec.msgpack.Decoder(Profile).decode
_decode_about = msgspec.msgpack.Decoder(About).decode


class Seen(NamedTuple):
    """How far a state had read a caller's partitions: the next offsets in `calls.ended` and in `callers.facts`, of
    whose records before them, and of nothing else, an answer is made."""

    ended: int | None
    facts: int | None


class OpenStore:
    """One generation, read while its builder writes. Its making and its reads raise `FAILURES`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = _identity(path)
        self._ended_partitions = self._facts_partitions = self._period = 1
        self._transaction = 0  # of the writer, whose state `_seen` tells of
        self._seen: dict[int, Seen] = {}
        if (path / DAMAGE_MARK).exists():
            raise Damaged("it was found damaged")
        try:
            self._open()
        except DAMAGE:
            self.mark()
            raise

    def look_up(self, caller: bytes, hash_: int) -> tuple[Profile | None, Seen]:
        """The profile, and how far the very state had come that said so."""
        try:
            return self._look_up(caller, hash_)
        except lmdb.MapResizedError:
            self._env.set_mapsize(0)  # as large as the writer has made it
            return self._look_up(caller, hash_)

    def is_caught_up(self) -> bool:
        try:
            about = self._about()
        except lmdb.MapResizedError:
            self._env.set_mapsize(0)
            about = self._about()
        return about is not None and about.caught_up

    def positions(self) -> dict[tuple[str, int], int]:
        with self._env.begin(db=self._meta) as tx:
            return positions_of(tx.cursor())

    def count_partitions(self) -> None:
        """Again after the topics have grown. A store that has caught up has a position in each partition."""
        known = self.positions()
        self._ended_partitions = sum(topic == CALLS_ENDED.name for topic, _ in known) or 1
        self._facts_partitions = sum(topic == CALLERS_FACTS.name for topic, _ in known) or 1
        # Two hashes that agree in this have their partitions in common, in either topic.
        self._period = math.lcm(self._ended_partitions, self._facts_partitions)
        self._seen.clear()

    def was_made_anew(self, path: Path) -> bool:
        """Whether there is another file now in what should be the same place."""
        return path == self.path and _identity(path) != self._file

    def mark(self) -> None:
        """Tells the builder that it is damaged."""
        with contextlib.suppress(OSError):  # gone, or a read-only mount: then it is for the builder to find
            if self._file == _identity(self.path):
                (self.path / DAMAGE_MARK).touch()

    def close(self) -> None:
        with contextlib.suppress(lmdb.Error):  # it is given up anyway
            self._env.close()

    def _open(self) -> None:
        # A spare transaction saves two allocations and a lock at each read.
        self._env = lmdb.open(str(self.path), readonly=True, create=False, max_dbs=4, max_spare_txns=1, map_size=0)
        try:
            if self._file != _identity(self.path):
                raise FileNotFoundError("the store was replaced while it was opened")
            check_length(self._env, self.path)
            self._profiles = self._env.open_db(PROFILES, create=False)
            self._meta = self._env.open_db(META, create=False)
            with self._env.begin(db=self._meta) as tx:
                check_format(tx.get(FORMAT_KEY))
        except BaseException:
            self.close()
            raise

    def _look_up(self, caller: bytes, hash_: int) -> tuple[Profile | None, Seen]:
        with self._env.begin(db=self._profiles, buffers=True) as tx:
            sealed = tx.get(caller)
            profile = None if sealed is None else _decode(unseal(caller, sealed))
            # Positions change with the writer's transactions only; many prefetches see the same one.
            if (transaction := tx.id()) != self._transaction:
                self._seen.clear()
                self._transaction = transaction
            hash_ &= 0x7FFFFFFF  # as `schemas.partition.partition_of`
            place = hash_ % self._period
            seen = self._seen.get(place)
            if seen is None:
                seen = self._seen[place] = Seen(
                    self._position(tx, CALLS_ENDED.name, place % self._ended_partitions),
                    self._position(tx, CALLERS_FACTS.name, place % self._facts_partitions),
                )
            return profile, seen

    def _position(self, tx: Any, topic: str, partition: int) -> int | None:
        key = position_key(topic, partition)
        sealed = tx.get(key, db=self._meta)
        return None if sealed is None else int(bytes(unseal(key, sealed)))

    def _about(self) -> About | None:
        with self._env.begin(db=self._meta) as tx:
            stored = tx.get(ABOUT_KEY)
            return None if stored is None else _decode_about(unseal(ABOUT_KEY, stored))


def _identity(path: Path) -> tuple[int, int]:
    """Of the data file. Raises `FileNotFoundError`."""
    found = (path / DATA_FILE).stat()
    return found.st_dev, found.st_ino
