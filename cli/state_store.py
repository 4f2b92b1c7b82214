"""The state store of this machine, for a command that looks into it beside its builder."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import lmdb

from runtime.settings import Settings
from state.layout import Damaged, store_path
from state.view import NoStore, StoreView, view_of


def store_of(settings: Settings) -> Path:
    """The directory of the store that is served. Raises `NoStore`."""
    return store_path(settings.state_dir)


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
        if isinstance(error, ConnectionError):
            raise
        raise NoStore(f"The state store in {path} can't be read: {error}.") from error
