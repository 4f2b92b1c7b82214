"""The state store of this machine, for a command that looks into it beside its builder."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import lmdb

from runtime.settings import Settings
from state.fold import FOLD_VERSION
from state.generations import Generations, version_of
from state.layout import Damaged
from state.room import NoRoom
from state.view import NoStore, StoreView, view_of


def store_of(settings: Settings) -> Path:
    """The directory of the generation that is served. Raises `NoStore`, also for one of another fold version."""
    generations = Generations(settings.state_dir)
    path = generations.serving()
    if path is None:
        raise NoStore(
            f"There is no state store in {settings.state_dir}: is `ringlog up`, or `ringlog consume profiles`, running"
            " with this data directory, and has it caught up for the first time?"
        )
    if not generations.is_ours(path):
        raise NoStore(
            f"The state store in {path} follows the rules of fold version {version_of(path.name)}, and this ringlog"
            f" those of {FOLD_VERSION}: it is served until the new one, which its builder makes, has caught up."
        )
    return path


@contextmanager
def opened(path: Path) -> Iterator[StoreView]:
    """Raises `NoStore`, a sentence, for whatever keeps it from being read, also inside of the block."""
    with readable(path), view_of(path) as view:
        yield view


@contextmanager
def readable(path: Path) -> Iterator[None]:
    """Whatever keeps the store from being read, or copied, is a sentence."""
    try:
        yield
    except Damaged as error:
        raise NoStore(
            f"The state store in {path} is damaged ({error}): its builder makes it anew when it comes across the place,"
            " or by `ringlog state rebuild`."
        ) from error
    except (lmdb.Error, OSError) as error:
        if isinstance(error, ConnectionError | NoRoom):
            raise
        raise NoStore(f"The state store in {path} can't be read, or copied: {error}.") from error
