"""One replay of a consumer at a time, whoever runs it and wherever."""

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from sqlalchemy import Engine, text


class ReplayBusy(ConnectionError):
    """Another replay of the consumer has the shadow: a sentence for people."""


@contextlib.contextmanager
def locked(engine: Engine, consumer: str, file: Path | None) -> Iterator[None]:
    """Until the end, or that of the process, however it ends. By `file` on SQLite, by PostgreSQL itself there.

    Raises `ReplayBusy`.
    """
    with _by_file(file, consumer) if file is not None else _by_postgres(engine, consumer):
        yield


@contextlib.contextmanager
def _by_file(path: Path, consumer: str) -> Iterator[None]:
    path.parent.mkdir(parents=True, exist_ok=True)
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise _busy(consumer) from None
        yield
    finally:
        os.close(file)


@contextlib.contextmanager
def _by_postgres(engine: Engine, consumer: str) -> Iterator[None]:
    """A lock of the session, in no transaction: one that is open for hours would keep PostgreSQL from cleaning up."""
    with engine.execution_options(isolation_level="AUTOCOMMIT").connect() as connection:
        key = {"consumer": consumer}
        mine = text("SELECT pg_try_advisory_lock(hashtext('ringlog replay'), hashtext(:consumer))")
        if not connection.execute(mine, key).scalar():
            raise _busy(consumer)
        try:
            yield
        finally:
            connection.execute(text("SELECT pg_advisory_unlock(hashtext('ringlog replay'), hashtext(:consumer))"), key)


def _busy(consumer: str) -> ReplayBusy:
    return ReplayBusy(f"Another replay of {consumer} is running: wait for its end, or stop it.")
