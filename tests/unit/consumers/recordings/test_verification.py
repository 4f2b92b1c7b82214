"""Verifying reads much, and may be told to stop."""

import asyncio

from consumers.recordings.storage import Storage
from consumers.recordings.verification import Verdict, verify
from tests.unit.consumers.recordings.books import Books
from tests.unit.consumers.recordings.sound_server import WAV, SoundServer
from tests.unit.consumers.recordings.test_downloader import OBJECT, called


async def test_told_to_stop_it_says_nothing_of_what_it_was_reading(books: Books, sounds: SoundServer) -> None:
    sounds.paths |= {"/1": WAV, "/2": WAV}
    books.hear(called("s1", sounds.url("/1")), called("s2", sounds.url("/2")))
    async with books.downloading():
        for session in ("s1", "s2"):
            await books.until(session, status="stored")
    stop, pieces = asyncio.Event(), 0

    def read(count: int) -> None:
        nonlocal pieces
        pieces += 1
        assert count == len(WAV)

    found = []
    async for verdict in verify(books.engine, Storage.open(books.settings), None, stop, read):
        found.append(verdict)
        stop.set()
    assert found == [Verdict("s1", OBJECT, "ok")]
    assert pieces == 1
