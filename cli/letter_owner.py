"""Whose dead letters a command is about."""

from sqlalchemy import Engine

from consumers import letter_book, own
from consumers.database import read_only
from consumers.process import CONSUMERS, PROFILES, find
from runtime.settings import SettingsError


def owner(engine: Engine, which: str, group: str | None) -> str:
    """The consumer's name. One of somebody's own need not be installed here: the database knows it.

    Raises `SettingsError`.
    """
    if which == PROFILES:
        raise SettingsError(f"profiles goes past what it can't read: dead letters have {_ours()}.")
    if which in CONSUMERS or own.is_import_path(which):
        return find(which, group).name
    name = group or which
    with read_only(engine).connect() as tx:
        if not letter_book.is_known(tx, name) and own.entry_point(which) is None:
            raise SettingsError(
                f"There is no {name!r}: dead letters have {_ours()}, and those of your own that have read anything."
            )
    return name


def _ours() -> str:
    return ", ".join(sorted(CONSUMERS))
