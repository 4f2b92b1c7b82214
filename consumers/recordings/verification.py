"""Whether what lies in the storage is still what the rows say of it."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Literal

import msgspec
from sqlalchemy import Engine

from consumers.recordings import book
from consumers.recordings.book import Entry
from consumers.recordings.storage import Storage


class Verdict(msgspec.Struct, frozen=True):
    """`reason` says what is there instead."""

    session_id: str
    object: str
    state: Literal["ok", "missing", "differs"]
    reason: str = ""


class _Stop(Exception):
    pass


async def verify(
    engine: Engine, storage: Storage, since_us: int | None, stop: asyncio.Event, read: Callable[[int], None]
) -> AsyncIterator[Verdict]:
    """Reads every stored recording and hashes it, one after the other, by pieces; `read` is told of each piece.

    Ends early, without a word on the recording that it was at, when `stop` is set. Raises `StorageAway`, and what the
    database raises.
    """

    def piece(count: int) -> None:
        if stop.is_set():
            raise _Stop
        read(count)

    entries = book.stored(engine, since_us)
    try:
        while not stop.is_set() and (entry := await asyncio.to_thread(next, entries, None)):
            yield await _verdict(storage, entry, piece)
    except _Stop:
        return


async def _verdict(storage: Storage, entry: Entry, read: Callable[[int], None]) -> Verdict:
    name = entry.object or ""
    there = await storage.read(name, read)
    if there is None:
        return Verdict(entry.session_id, name, "missing", "there is no such object")
    size, sha256 = there
    if (size, sha256) == (entry.bytes, entry.sha256):
        return Verdict(entry.session_id, name, "ok")
    if size != entry.bytes:
        return Verdict(entry.session_id, name, "differs", f"it has {size} bytes, and {entry.bytes} were stored")
    return Verdict(
        entry.session_id, name, "differs", f"its sha256 is {sha256}, and that of what was stored {entry.sha256}"
    )
