"""A store at one moment, read whole, beside the process that writes it."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import lmdb
import msgspec

from state.layout import (
    ABOUT_KEY,
    CALLS,
    DATA_FILE,
    FORMAT_KEY,
    META,
    PROFILES,
    SESSIONS,
    About,
    Damaged,
    UnknownFormat,
    check_format,
    check_length,
    positions_of,
    unseal,
)
from state.profile import Profile
from state.room import Room
from state.session import Session

Row = tuple[str, bytes, bytes]  # of which database, the key, the value with its seal; sorted by all three

# The order in which a store is dumped. `calls` alone has no seals: its values are keys.
DATABASES = {"profiles": PROFILES, "sessions": SESSIONS, "calls": CALLS, "meta": META}
POSITIONS = "meta"

_COPY = "A copy of the state store"

_DAMAGE = (
    lmdb.CorruptedError,
    lmdb.InvalidError,
    lmdb.PageNotFoundError,
    lmdb.VersionMismatchError,
    lmdb.PanicError,
    lmdb.IncompatibleError,
    lmdb.NotFoundError,  # a store has all of its databases
    msgspec.DecodeError,
)

_decode_profile = msgspec.msgpack.Decoder(Profile).decode
_decode_session = msgspec.msgpack.Decoder(Session).decode
_decode_about = msgspec.msgpack.Decoder(About).decode


class NoStore(ConnectionError):
    """There is nothing to read; the text is a sentence that says what to do."""


class StoreView:
    """One read transaction over all of a store; made by `view_of`.

    Everything blocks on the disk, and raises `Damaged` for what is not what was written. While a view is open its
    writer can't use pages again that it has freed: what takes long works on a copy.
    """

    def __init__(self, tx: Any, databases: dict[str, Any]) -> None:
        self._tx = tx
        self._databases = databases

    def about(self) -> About | None:
        stored = self._tx.get(ABOUT_KEY, db=self._databases["meta"])
        return None if stored is None else _decode_about(unseal(ABOUT_KEY, stored))

    def positions(self) -> dict[tuple[str, int], int]:
        """Catalogue's topic and partition -> the next offset."""
        return positions_of(self._tx.cursor(db=self._databases["meta"]))

    def entries(self) -> dict[str, int]:
        """How many rows each database has; a call counts for each caller that has it."""
        return {name: self._tx.stat(db)["entries"] for name, db in self._databases.items() if name != POSITIONS}

    def rows(self) -> Iterator[Row]:
        """Everything that the topics decide, sorted: equal stores, equal rows. The seals are not looked at."""
        for name, db in self._databases.items():
            for key, value in self._tx.cursor(db=db):
                if name != POSITIONS or key not in (ABOUT_KEY, FORMAT_KEY):
                    yield name, key, value

    def check(self) -> None:
        """Raises `Damaged` unless every value is what was written."""
        for database, key, value in self.rows():
            if database != "calls":
                unseal(key, value)

    def profile(self, caller: bytes) -> Profile | None:
        sealed = self._tx.get(caller, db=self._databases["profiles"])
        return None if sealed is None else _decode_profile(unseal(caller, sealed))

    def session(self, key: bytes) -> Session | None:
        sealed = self._tx.get(key, db=self._databases["sessions"])
        return None if sealed is None else _decode_session(unseal(key, sealed))

    def sessions_of(self, caller: bytes) -> Iterator[bytes]:
        """Keys of the sessions that are the caller's calls, sorted."""
        cursor = self._tx.cursor(db=self._databases["calls"])
        if cursor.set_key(caller):
            yield from cursor.iternext_dup()


@contextmanager
def view_of(path: Path) -> Iterator[StoreView]:
    """The store in the directory `path`, as its last commit left it. Not in the process of its writer.

    Raises `NoStore` when there is none, and `Damaged`, also for what is read inside of the block.
    """
    try:
        with _opened(path) as env:
            databases = {name: env.open_db(db, create=False) for name, db in DATABASES.items()}
            with env.begin() as tx:
                check_format(tx.get(FORMAT_KEY, db=databases["meta"]))
                yield StoreView(tx, databases)
    except UnknownFormat as error:
        raise NoStore(f"The state store in {path} can't be read: {error}.") from error
    except _DAMAGE as error:
        raise Damaged(str(error)) from error


def copy_store(path: Path, folder: Path, room: Room, *, stores: int = 1) -> None:
    """A copy of one moment into `folder`, which must be there, be empty, and lie in `room`.

    Its data file alone makes a store, as large as the one it is of. `stores`: how many of that size the disk must have
    room for, this one included, or nothing is copied. Raises as `view_of`, `NoRoom`, and `OSError` or `lmdb.Error` when
    the disk is full all the same.
    """
    try:
        with _opened(path) as env:
            size = (path / DATA_FILE).stat().st_size
            room.demand(_COPY if stores == 1 else f"{_COPY}, and {stores - 1} more of its size,", stores * size)
            # Not compact: in lmdb 3.0.0 that ends the process where a caller has so many calls (84) that these have a
            # tree of their own.
            env.copy(str(folder), compact=False)
    except _DAMAGE as error:
        raise Damaged(str(error)) from error


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    if not (path / DATA_FILE).exists():
        raise NoStore(
            f"There is no state store in {path}: is `ringlog consume profiles` running with this data directory?"
        )
    env = lmdb.open(str(path), readonly=True, create=False, max_dbs=len(DATABASES), map_size=0)
    try:
        check_length(env, path)
        yield env
    finally:
        env.close()
