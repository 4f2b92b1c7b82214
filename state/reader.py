"""Profiles as the edge reads them, while another process writes them."""

import contextlib
from pathlib import Path

import lmdb
import msgspec

from state.generations import Generations
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
    positions_of,
    unseal,
)
from state.profile import Profile

# What a read can end with when the file is not what it should be, is gone, or the slots of readers are all taken.
_FAILURES = (lmdb.Error, msgspec.DecodeError, ValueError, OSError, RecursionError, Damaged, UnknownFormat)

_DAMAGE = (Damaged, msgspec.DecodeError, lmdb.CorruptedError, lmdb.PageNotFoundError)

_decode = msgspec.msgpack.Decoder(Profile).decode
_decode_about = msgspec.msgpack.Decoder(About).decode


class ProfileReader:
    """One a process, made after any fork, used by one thread; not in the process of the writer, which LMDB forbids.

    Nothing here raises. While there is no store, or its builder hasn't caught up with the topics for the first time,
    `available` is false and nobody is known: half a profile is a wrong one. When another generation is served, the one
    that is read is let go only when the new one is open, and is read on for as long as that can't be.
    """

    def __init__(self, state_dir: Path) -> None:
        self._generations = Generations(state_dir)
        self._store: _OpenStore | None = None
        self._serves = False
        self._failed = False
        self.error: str | None = (
            None  # why it is not available, or why it reads a generation that is not served any more
        )
        self.refresh()

    @property
    def available(self) -> bool:
        return self._serves

    @property
    def generation(self) -> str | None:
        """The name of the one that is read."""
        return self._store.path.name if self._store else None

    @property
    def is_old(self) -> bool:
        """Whether other rules than this version's made it: it is not folded on, and answers until there is another."""
        return self._store is not None and not self._generations.is_ours(self._store.path)

    def get(self, caller_id: str) -> Profile | None:
        """None for a caller without calls and facts, too: that a prefetch was seen must not change an answer."""
        if not self._serves or self._store is None:
            return None
        key = caller_id.encode(errors="replace")
        try:
            profile = self._store.profile(key)
        except lmdb.BadValsizeError:
            return None  # no key of a store: nobody has this id
        except _FAILURES as error:
            self._fail(error)
            return None
        return profile if profile is not None and (profile.calls or profile.facts) else None

    def refresh(self) -> None:
        """(Re)opens the store when it appeared, was replaced or failed. Cheap; call it about once a second."""
        try:
            path = self._generations.serving()
            if self._store is not None and (self._failed or path is None or self._store.was_made_anew(path)):
                self.close()
            refused = self._take_up(path) if path is not None else None
            self._failed = False
            self._serves = self._store is not None and self._store.is_caught_up()
            missing = "the store has not caught up with the topics yet" if self._store else "there is no store yet"
            self.error = refused or (None if self._serves else missing)
        except _FAILURES as error:
            self._fail(error)
            self.close()

    def positions(self) -> dict[tuple[str, int], int]:
        """Catalogue's topic and partition -> the next offset that the store has not seen. Empty without a store."""
        try:
            return self._store.positions() if self._store else {}
        except _FAILURES as error:
            self._fail(error)
            return {}

    def close(self) -> None:
        self._serves = False
        if self._store is not None:
            self._store.close()
        self._store = None

    def _take_up(self, path: Path) -> str | None:
        """Reads this store from now on. When that can't be, and another one is read: a sentence that says why."""
        if self._store is not None and self._store.path == path:
            return None
        try:
            store = _OpenStore(path)
        except _FAILURES as error:
            if self._store is None:
                raise
            return f"{path.name} can't be read: {str(error) or repr(error)}"
        if self._store is not None and not store.is_caught_up():
            store.close()
            return f"{path.name} has not caught up with the topics yet"
        self.close()
        self._store = store
        return None

    def _fail(self, error: Exception) -> None:
        self._serves = False
        self._failed = True
        self.error = str(error) or repr(error)
        if self._store is not None and isinstance(error, _DAMAGE):
            self._store.mark()


def answers(path: Path) -> bool:
    """Whether a reader of this version would answer from the store in this directory. Not while one is open here.

    Raises `OSError` and `lmdb.Error` when that can't be said now.
    """
    try:
        store = _OpenStore(path)
        try:
            return store.is_caught_up()
        finally:
            store.close()
    except (*_DAMAGE, UnknownFormat, lmdb.InvalidError, lmdb.VersionMismatchError):
        return False


class _OpenStore:
    """One generation. Its making and its reads raise `_FAILURES`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = _identity(path)
        if (path / DAMAGE_MARK).exists():
            raise Damaged("it was found damaged")
        try:
            self._open()
        except _DAMAGE:
            self.mark()
            raise

    def profile(self, key: bytes) -> Profile | None:
        try:
            return self._profile(key)
        except lmdb.MapResizedError:
            self._env.set_mapsize(0)  # as large as the writer has made it
            return self._profile(key)

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

    def _profile(self, key: bytes) -> Profile | None:
        with self._env.begin(db=self._profiles, buffers=True) as tx:
            sealed = tx.get(key)
            return None if sealed is None else _decode(unseal(key, sealed))

    def _about(self) -> About | None:
        with self._env.begin(db=self._meta) as tx:
            stored = tx.get(ABOUT_KEY)
            return None if stored is None else _decode_about(unseal(ABOUT_KEY, stored))


def _identity(path: Path) -> tuple[int, int]:
    """Of the data file. Raises `FileNotFoundError`."""
    found = (path / DATA_FILE).stat()
    return found.st_dev, found.st_ino
