"""The one writer of the profiles: what a batch of events changes, and how far it was read, in one transaction."""

import gc
import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from operator import itemgetter
from pathlib import Path
from typing import Any

import lmdb
import msgspec

from state.fold import Fold
from state.layout import (
    ABOUT_KEY,
    CALLS,
    DAMAGE_MARK,
    DATA_FILE,
    FORMAT_KEY,
    META,
    PROFILES,
    SESSIONS,
    STORE_FORMAT,
    About,
    Damaged,
    UnknownFormat,
    check_format,
    check_length,
    position_key,
    positions_of,
    seal,
    unseal,
)
from state.lock import writer_lock
from state.profile import ProfileRow
from state.session import Session
from state.slices import ReadSlice, Skipped, Slice, read_slice

# Address space, not memory and not disk: large, so that readers seldom have to map the file anew.
MAP_BYTES = 16 * 1024**3

# What says that the file is not what LMDB wrote; other errors (a full disk, missing rights) say nothing about it.
_DAMAGE = (
    lmdb.CorruptedError,
    lmdb.InvalidError,
    lmdb.PageNotFoundError,
    lmdb.VersionMismatchError,
    lmdb.PanicError,
    lmdb.IncompatibleError,
    msgspec.DecodeError,
)

_encode = msgspec.msgpack.Encoder().encode
_decode_row = msgspec.msgpack.Decoder(ProfileRow).decode
_decode_session = msgspec.msgpack.Decoder(Session).decode
_caller_of = itemgetter(0)
_decode_about = msgspec.msgpack.Decoder(About).decode


class ProfileStore:
    """Opens the store in the directory `path`, or makes an empty one there.

    Every method blocks on the disk. A store that turns out to be damaged raises `Damaged`: it is of no use any more,
    the topics are folded into another one. Raises `StoreBusy` while another process writes it; `OSError` or
    `lmdb.Error` when the disk is full or may not be written.
    """

    def __init__(self, path: Path, *, map_bytes: int = MAP_BYTES) -> None:
        self._path = path
        self._map_bytes = map_bytes
        self._lock = writer_lock(path)
        try:
            self._open()
        except BaseException:
            self._lock.release()
            raise

    @property
    def path(self) -> Path:
        return self._path

    def about(self) -> About | None:
        """None in a store that has never been written to."""
        with self._read() as tx:
            stored = tx.get(ABOUT_KEY, db=self._meta)
            return None if stored is None else _decode_about(unseal(ABOUT_KEY, stored))

    def set_about(self, about: About) -> None:
        self._write(lambda tx: tx.put(ABOUT_KEY, seal(ABOUT_KEY, _encode(about)), db=self._meta))

    def positions(self) -> dict[tuple[str, int], int]:
        """Catalogue's topic and partition -> the next offset."""
        with self._read() as tx:
            return positions_of(tx.cursor(db=self._meta))

    def fold(self, slices: Sequence[Slice]) -> list[Skipped]:
        """Folds the slices and advances the positions, all of it or nothing. What could not be read is returned."""
        with _uncollected():
            read = [read_slice(part) for part in slices]
            self._write(lambda tx: self._fold(tx, read))
        return [skipped for part in read for skipped in part.skipped]

    def check(self) -> None:
        """Raises `Damaged` when somebody deleted the files, or a reader found them damaged."""
        if (self._path / DAMAGE_MARK).exists():
            raise Damaged("a reader found it damaged")
        if self._file != _identity(self._path / DATA_FILE):
            raise Damaged("its files were deleted")

    def size(self) -> tuple[int, int]:
        """Bytes of the file, and profiles in it."""
        with self._read() as tx:
            return (self._path / DATA_FILE).stat().st_size, tx.stat(self._profiles)["entries"]

    def free_dead_readers(self) -> None:
        """A reader that was killed would keep old pages from being used again."""
        self._env.reader_check()

    def dump(self) -> Iterator[tuple[str, bytes, bytes]]:
        """`(database, key, value)` of everything that the topics decide, sorted: equal stores, equal bytes."""
        with self._read() as tx:
            for name, db in (("profiles", self._profiles), ("sessions", self._sessions), ("calls", self._calls)):
                for key, value in tx.cursor(db=db):
                    yield name, key, value
            for key, value in tx.cursor(db=self._meta):
                if key not in (ABOUT_KEY, FORMAT_KEY):
                    yield "meta", key, value

    def sync(self) -> None:
        """What was committed is on the disk, whatever happens to the machine."""
        self._env.sync(True)

    def close(self) -> None:
        """Nothing else is called afterwards, but this may be."""
        self._env.close()
        self._lock.release()

    def _open(self) -> None:
        """Raises `Damaged`."""
        if (self._path / DAMAGE_MARK).exists():
            raise Damaged("a reader found it damaged")
        try:
            # Without metasync a crash of the machine may undo the last transaction, offsets included: it comes again.
            self._env = lmdb.open(str(self._path), map_size=self._map_bytes, max_dbs=4, metasync=False)
        except _DAMAGE as error:
            raise Damaged(str(error)) from error
        try:
            if missing := check_length(self._env, self._path):
                file = self._path / DATA_FILE
                os.truncate(file, file.stat().st_size + missing)
            self._profiles = self._env.open_db(PROFILES)
            self._sessions = self._env.open_db(SESSIONS)
            self._calls = self._env.open_db(CALLS, dupsort=True, dupfixed=True)
            self._meta = self._env.open_db(META)
            self._file = _identity(self._path / DATA_FILE)
            self._check_content()
        except (*_DAMAGE, UnknownFormat) as error:
            self._env.close()
            raise Damaged(str(error)) from error
        except BaseException:
            self._env.close()
            raise

    def _check_content(self) -> None:
        """Raises `Damaged` and `UnknownFormat`."""
        with self._env.begin(write=True) as tx:
            if tx.stat(self._meta)["entries"] == 0:
                tx.put(FORMAT_KEY, seal(FORMAT_KEY, b"%d" % STORE_FORMAT), db=self._meta)
            check_format(tx.get(FORMAT_KEY, db=self._meta))
        self.about()
        self.positions()

    @contextmanager
    def _read(self) -> Iterator[Any]:
        try:
            with self._env.begin() as tx:
                yield tx
        except _DAMAGE as error:
            raise Damaged(str(error)) from error

    def _write(self, change: Any) -> Any:
        """Runs `change(tx)` in a transaction, again in a larger map when it did not fit."""
        while True:
            try:
                with self._env.begin(write=True) as tx:
                    return change(tx)
            except lmdb.MapFullError:
                self._map_bytes *= 2
                self._env.set_mapsize(self._map_bytes)
            except _DAMAGE as error:
                raise Damaged(str(error)) from error

    def _fold(self, tx: Any, slices: Sequence[ReadSlice]) -> None:
        fold = Fold(_Source(tx, self._profiles, self._sessions, self._calls))
        for part in slices:
            fold.add(part)
        fold.settle()
        self._put(tx, fold)
        for part in slices:
            key = position_key(part.topic, part.partition)
            tx.put(key, seal(key, b"%d" % part.next_offset), db=self._meta)

    def _put(self, tx: Any, fold: Fold) -> None:
        # Sorted: neighbours share a page.
        tx.cursor(db=self._sessions).putmulti(_sealed(fold.sessions))
        calls = sorted((pair for pair, there in fold.calls.items() if there), key=_caller_of)
        tx.cursor(db=self._calls).putmulti(calls)
        for (caller, key), there in fold.calls.items():
            if not there:
                tx.delete(caller, key, db=self._calls)
        kept = {caller: row for caller, row in fold.profiles.items() if not row.is_empty}
        tx.cursor(db=self._profiles).putmulti(_sealed(kept))
        for caller in fold.profiles.keys() - kept.keys():
            tx.delete(caller, db=self._profiles)


@contextmanager
def _uncollected() -> Iterator[None]:
    """A batch is a hundred thousand objects and no cycle: to look for one, again and again, was a sixth of a fold."""
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collects:
            gc.enable()


def _sealed(rows: Mapping[bytes, Any]) -> list[tuple[bytes, bytes]]:
    return [(key, seal(key, _encode(rows[key]))) for key in sorted(rows)]


class _Source:
    """`state.fold.Source` over a transaction."""

    def __init__(self, tx: Any, profiles: Any, sessions: Any, calls: Any) -> None:
        self._tx = tx
        self._profiles = profiles
        self._sessions = sessions
        self._calls = calls

    def profiles(self, callers: Collection[bytes]) -> dict[bytes, ProfileRow]:
        return {caller: _decode_row(unseal(caller, sealed)) for caller, sealed in self._found(self._profiles, callers)}

    def sessions(self, sessions: Collection[bytes]) -> dict[bytes, Session]:
        return {key: _decode_session(unseal(key, sealed)) for key, sealed in self._found(self._sessions, sessions)}

    def sessions_of(self, caller: bytes) -> Iterator[bytes]:
        cursor = self._tx.cursor(db=self._calls)
        if cursor.set_key(caller):
            yield from cursor.iternext_dup()

    def _found(self, db: Any, keys: Collection[bytes]) -> list[tuple[bytes, bytes]]:
        """Sorted: neighbours share a page."""
        found: list[tuple[bytes, bytes]] = self._tx.cursor(db=db).getmulti(sorted(keys))
        return found


def _identity(file: Path) -> tuple[int, int] | None:
    try:
        found = file.stat()
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino
