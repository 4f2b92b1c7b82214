"""The generations of the state store: the one that is served, and the one that is being built beside it.

    <state dir>/g7-v2/         a store: number 7, by the rules of fold version 2
    <state dir>/g8-v2/         a newer one, being built
    <state dir>/current        says g7-v2: what is served

Numbers only grow. A generation is served from when `current` names it, which changes in one step, and is removed when
it no longer does.
"""

import os
import re
import shutil
from contextlib import suppress
from pathlib import Path

from state.fold import FOLD_VERSION
from state.layout import DATA_FILE
from state.lock import Lock, StoreBusy, writer_lock

CURRENT = "current"

# In a generation that has caught up and waits for the running builder to take it over.
_OFFER = "offered"

# Names the snapshot that it was begun with, which is all that there is to say of its beginning.
FROM_SNAPSHOT = "from-snapshot"

_NAME = re.compile(r"g([1-9][0-9]*)-v([0-9]+)")

# Moved there before it is removed: nobody ever opens the half of a store.
_REMOVED = ".removed"

# Development versions before the first release had one store, in a directory of this name.
_FORMER = "profiles-v*"


class Generations:
    """Of one state directory; nothing needs to be there. Everything blocks on the disk and raises `OSError`."""

    def __init__(self, state_dir: Path, version: int = FOLD_VERSION) -> None:
        self._dir = state_dir
        self._version = version

    def serving(self) -> Path | None:
        """The one that is served, of whatever fold version. None when there is none, or somebody deleted it."""
        name = self._current()
        path = self._dir / name if name else None
        return path if path and (path / DATA_FILE).exists() else None

    def unfinished(self) -> Path | None:
        """A newer one, of this fold version, that is being built or whose building was broken off."""
        served = number_of(self._current() or "")
        newer = [path for path in self._all() if number_of(path.name) > served and self.is_ours(path)]
        return max(newer, key=lambda path: number_of(path.name), default=None)

    def offered(self) -> Path | None:
        """The unfinished one, if it has caught up and is for the running builder to take over."""
        path = self.unfinished()
        return path if path and (path / _OFFER).exists() else None

    def begin(self) -> Path:
        """The directory of a new, empty one. Hold `rebuilding` for it."""
        path = self._next()
        path.mkdir(parents=True)
        return path

    def adopt(self, folder: Path) -> Path:
        """As `begin`, with the store in `folder`, which is moved, and must be of this fold version and this disk."""
        return folder.rename(self._next())

    def offer(self, path: Path) -> None:
        """Only what has caught up."""
        (path / _OFFER).touch()

    def swap(self, path: Path) -> None:
        """From now on `path` is served. Hold `building` for it: it's the builder who goes on from there.

        Whoever reads `current` meanwhile sees the former name or this one, and so does who comes after a crash.
        """
        new = self._dir / f"{CURRENT}.new"
        with new.open("w") as file:
            file.write(f"{path.name}\n")
            file.flush()
            os.fsync(file.fileno())
        new.replace(self._dir / CURRENT)
        with suppress(FileNotFoundError):
            (path / _OFFER).unlink()
        self._sync()

    def discard(self, path: Path) -> None:
        """Removes one that is of no use any more, the served one, too: then nothing is. `StoreBusy` when it's open."""
        if not path.is_dir():
            return  # somebody deleted it: that is how to ask for a new one
        with writer_lock(path):
            aside = path.with_name(path.name + _REMOVED)
            shutil.rmtree(aside, ignore_errors=True)  # whose removal was broken off
            path.rename(aside)
            shutil.rmtree(aside, ignore_errors=True)

    def prune(self) -> None:
        """Removes what is neither served nor unfinished. What a process writes is left for the next time."""
        kept = {self.serving(), self.unfinished()}
        for path in self._all():
            if path not in kept:
                with suppress(StoreBusy):
                    self.discard(path)
        for rubbish in (*self._dir.glob(f"g*{_REMOVED}"), *self._dir.glob(_FORMER)):
            shutil.rmtree(rubbish, ignore_errors=True)

    def is_ours(self, path: Path) -> bool:
        """Whether its rules are those of this fold version: only then may it be folded on."""
        return version_of(path.name) == self._version

    def building(self) -> Lock:
        """Held by the builder, who alone folds into what is served, and swaps. Raises `StoreBusy`."""
        return Lock(
            self._dir / "builder.lock", f"builds the profiles in {self._dir}; each needs a directory of its own"
        )

    def rebuilding(self) -> Lock:
        """Held by whoever builds a new generation. Raises `StoreBusy`."""
        return Lock(self._dir / "rebuild.lock", f"builds a new generation in {self._dir} already")

    def _next(self) -> Path:
        last = max((number_of(path.name) for path in self._all()), default=0)
        return self._dir / f"g{max(last, number_of(self._current() or '')) + 1}-v{self._version}"

    def _current(self) -> str | None:
        try:
            name = (self._dir / CURRENT).read_text(errors="replace").strip()
        except FileNotFoundError:
            return None
        return name if _NAME.fullmatch(name) else None

    def _all(self) -> list[Path]:
        if not self._dir.is_dir():
            return []
        return [path for path in self._dir.iterdir() if _NAME.fullmatch(path.name) and path.is_dir()]

    def _sync(self) -> None:
        directory = os.open(self._dir, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)


def number_of(name: str) -> int:
    """0 for what is no generation's name."""
    match = _NAME.fullmatch(name)
    return int(match[1]) if match else 0


def version_of(name: str) -> int | None:
    """The fold version of a generation, by its name."""
    match = _NAME.fullmatch(name)
    return int(match[2]) if match else None
