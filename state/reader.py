"""Profiles as the edge reads them, while another process writes them."""

import threading
from pathlib import Path

import lmdb

from state.generations import Generations
from state.layout import UnknownFormat
from state.open_store import DAMAGE, FAILURES, OpenStore, Seen
from state.profile import Profile


class ProfileReader:
    """One a process, made after any fork, used by one thread; not in the process of the writer, which LMDB forbids.

    Nothing here raises. While there is no store, or its builder hasn't caught up with the topics for the first time,
    `available` is false and nobody is known: half a profile is a wrong one. When another generation is served, the one
    that is read is let go only when the new one is open, and is read on for as long as that can't be.
    """

    def __init__(self, state_dir: Path) -> None:
        self._generations = Generations(state_dir)
        self._store: OpenStore | None = None
        self._serves = False
        self._failed = False
        # Why it is not available, or why it reads a generation that is not served any more.
        self.error: str | None = None
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
        return self.look_up(caller_id.encode(errors="replace"), 0)[0]

    def look_up(self, caller: bytes, hash_: int) -> tuple[Profile | None, Seen | None]:
        """The same, and how far the very state had come that said so; None without one.

        `hash_` is the murmur2 of `caller`, which decides the partition.
        """
        if not self._serves or self._store is None:
            return None, None
        try:
            profile, seen = self._store.look_up(caller, hash_)
        except lmdb.BadValsizeError:
            return None, None  # no key of a store: nobody has this id
        except FAILURES as error:
            self._fail(error)
            return None, None
        return profile if profile is not None and profile.tells else None, seen

    def refresh(self) -> None:
        """(Re)opens the store when it appeared, was replaced or failed. Cheap; call it about once a second."""
        try:
            path = self._generations.serving()
            if self._store is not None and (self._failed or path is None or self._store.was_made_anew(path)):
                self.close()
            refused = self._take_up(path) if path is not None else None
            self._failed = False
            self._serves = self._store is not None and self._store.is_caught_up()
            if self._store is not None:
                self._store.count_partitions()
            missing = "the store has not caught up with the topics yet" if self._store else "there is no store yet"
            self.error = refused or (None if self._serves else missing)
        except FAILURES as error:
            self._fail(error)
            self.close()

    def positions(self) -> dict[tuple[str, int], int]:
        """Catalogue's topic and partition -> the next offset that the store has not seen. Empty without a store."""
        try:
            return self._store.positions() if self._store else {}
        except FAILURES as error:
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
            store = OpenStore(path)
        except FAILURES as error:
            if self._store is None:
                raise
            return f"{path.name} can't be read: {str(error) or repr(error)}"
        if self._store is not None and not store.is_caught_up():
            store.close()
            return f"{path.name} has not caught up with the topics yet"
        before, self._store = self._store, store
        if before is not None:
            _close_aside(before)
        return None

    def _fail(self, error: Exception) -> None:
        self._serves = False
        self._failed = True
        self.error = str(error) or repr(error)
        if self._store is not None and isinstance(error, DAMAGE):
            self._store.mark()


def _close_aside(store: OpenStore) -> None:
    """Its file may have been deleted already: then whoever closes it last frees all of its blocks, which takes as long
    as many an answer."""
    threading.Thread(target=store.close, name="state.reader.close", daemon=True).start()


def answers(path: Path) -> bool:
    """Whether a reader of this version would answer from the store in this directory. Not while one is open here.

    Raises `OSError` and `lmdb.Error` when that can't be said now.
    """
    try:
        store = OpenStore(path)
        try:
            return store.is_caught_up()
        finally:
            store.close()
    except (*DAMAGE, UnknownFormat, lmdb.InvalidError, lmdb.VersionMismatchError):
        return False
