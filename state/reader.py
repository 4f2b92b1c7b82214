"""Profiles as the edge reads them, while another process writes them."""

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
    META,
    PROFILES,
    About,
    Damaged,
    check_length,
    position_key,
    positions_of,
    store_path,
    unseal,
)
from state.profile import Profile

# What a read can end with when the file is not what it should be, is gone, or the slots of readers are all taken.
_FAILURES = (lmdb.Error, msgspec.DecodeError, ValueError, OSError, RecursionError, Damaged)

_DAMAGE = (Damaged, msgspec.DecodeError, lmdb.CorruptedError, lmdb.PageNotFoundError)

_decode = msgspec.msgpack.Decoder(Profile).decode
_decode_about = msgspec.msgpack.Decoder(About).decode


class Seen(NamedTuple):
    """How far a state had read a caller's partitions: the next offsets in `calls.ended` and in `callers.facts`, of
    whose records before them, and of nothing else, an answer is made."""

    ended: int | None
    facts: int | None


class ProfileReader:
    """One a process, made after any fork, used by one thread; not in the process of the writer, which LMDB forbids.

    Nothing here raises. While there is no store, or its builder hasn't caught up with the topics for the first time,
    `available` is false and nobody is known: half a profile is a wrong one.
    """

    def __init__(self, state_dir: Path) -> None:
        self._path = store_path(state_dir)
        self._env: Any = None
        self._profiles: Any = None
        self._meta: Any = None
        self._file: tuple[int, int] | None = None
        self._serves = False
        self._failed = False
        self._ended_partitions = self._facts_partitions = self._period = 1
        self._transaction = 0  # of the writer, whose state `_seen` tells of
        self._seen: dict[int, Seen] = {}
        self.error: str | None = None  # why it is not available
        self.refresh()

    @property
    def available(self) -> bool:
        return self._serves

    def get(self, caller_id: str) -> Profile | None:
        """None for a caller without calls and facts, too: that a prefetch was seen must not change an answer."""
        return self.look_up(caller_id.encode(errors="replace"), 0)[0]

    def look_up(self, caller: bytes, hash_: int) -> tuple[Profile | None, Seen | None]:
        """The same, and how far the very state had come that said so; None without one.

        `hash_` is the murmur2 of `caller`, which decides the partition.
        """
        if not self._serves:
            return None, None
        try:
            try:
                profile, seen = self._read(caller, hash_)
            except lmdb.MapResizedError:
                self._env.set_mapsize(0)  # as large as the writer has made it
                profile, seen = self._read(caller, hash_)
        except lmdb.BadValsizeError:
            return None, None  # no key of a store: nobody has this id
        except _FAILURES as error:
            self._fail(error)
            return None, None
        return profile if profile is not None and profile.tells else None, seen

    def refresh(self) -> None:
        """(Re)opens the store when it appeared, was replaced or failed. Cheap; call it about once a second."""
        try:
            if self._env is not None and (self._failed or self._file != self._file_now()):
                self._close()
            if self._env is None:
                self._open()
            self._failed = False
            self._serves = self._is_caught_up()
            self._count_partitions()
            self.error = None if self._serves else "the store has not caught up with the topics yet"
        except _FAILURES as error:
            self._fail(error)
            self._close()

    def positions(self) -> dict[tuple[str, int], int]:
        """Catalogue's topic and partition -> the next offset that the store has not seen. Empty without a store."""
        if self._env is None:
            return {}
        try:
            return self._positions()
        except _FAILURES as error:
            self._fail(error)
            return {}

    def close(self) -> None:
        self._close()

    def _read(self, caller: bytes, hash_: int) -> tuple[Profile | None, Seen]:
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

    def _positions(self) -> dict[tuple[str, int], int]:
        with self._env.begin(db=self._meta) as tx:
            return positions_of(tx.cursor())

    def _position(self, tx: Any, topic: str, partition: int) -> int | None:
        key = position_key(topic, partition)
        sealed = tx.get(key, db=self._meta)
        return None if sealed is None else int(bytes(unseal(key, sealed)))

    def _count_partitions(self) -> None:
        """A store that has caught up has a position in each."""
        known = self._positions()
        self._ended_partitions = sum(topic == CALLS_ENDED.name for topic, _ in known) or 1
        self._facts_partitions = sum(topic == CALLERS_FACTS.name for topic, _ in known) or 1
        # Two hashes that agree in this have their partitions in common, in either topic.
        self._period = math.lcm(self._ended_partitions, self._facts_partitions)
        self._seen.clear()

    def _is_caught_up(self) -> bool:
        try:
            about = self._about()
        except lmdb.MapResizedError:
            self._env.set_mapsize(0)
            about = self._about()
        return about is not None and about.caught_up

    def _about(self) -> About | None:
        with self._env.begin(db=self._meta) as tx:
            stored = tx.get(ABOUT_KEY)
            return None if stored is None else _decode_about(unseal(ABOUT_KEY, stored))

    def _file_now(self) -> tuple[int, int]:
        found = (self._path / DATA_FILE).stat()
        return found.st_dev, found.st_ino

    def _open(self) -> None:
        self._file = self._file_now()
        # A spare transaction saves two allocations and a lock at each read.
        self._env = lmdb.open(str(self._path), readonly=True, create=False, max_dbs=4, max_spare_txns=1, map_size=0)
        if self._file != self._file_now():
            raise FileNotFoundError("the store was replaced while it was opened")
        check_length(self._env, self._path)
        self._profiles = self._env.open_db(PROFILES, create=False)
        self._meta = self._env.open_db(META, create=False)

    def _fail(self, error: Exception) -> None:
        self._serves = False
        self._failed = True
        self.error = str(error) or repr(error)
        if isinstance(error, _DAMAGE):
            with contextlib.suppress(OSError):  # a read-only mount: then it is for the builder to find
                if self._file == self._file_now():
                    (self._path / DAMAGE_MARK).touch()

    def _close(self) -> None:
        self._serves = False
        if self._env is not None:
            with contextlib.suppress(lmdb.Error):  # it is given up anyway
                self._env.close()
        self._env = None
