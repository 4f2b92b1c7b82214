"""A recording that is far larger than what we may take of memory: to a folder, to S3, and read back again."""

import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
from aiohttp import web

from consumers.database import migrate, open_engine
from consumers.recordings.storage import Storage
from runtime.settings import load_settings
from tests.unit.consumers.recordings.books import Books
from tests.unit.consumers.recordings.sound_server import WAV, SoundServer, serving
from tests.unit.consumers.recordings.test_downloader import called

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

BLOCK = bytes(64 * 1024)
BLOCKS = 4800  # 300 MB

# Parts in flight, sockets' buffers, and what an allocator keeps; a tenth of the recording.
MOST_BYTES = 30_000_000


@pytest.fixture
async def sounds() -> AsyncIterator[SoundServer]:
    async with serving() as server:
        yield server


async def large(request: web.Request) -> web.StreamResponse:
    """Made as it is sent: the server is in the process that is measured."""
    response = web.StreamResponse()
    await response.prepare(request)
    await response.write(WAV)
    for _ in range(BLOCKS):
        await response.write(BLOCK)
    return response


@contextmanager
def growth() -> Iterator[list[int]]:
    """What the process takes more of memory than before, at most, in bytes; known afterwards."""
    process, found = psutil.Process(), [0]
    before, done = process.memory_info().rss, threading.Event()

    def watch() -> None:
        while not done.is_set():
            found[0] = max(found[0], process.memory_info().rss - before)
            time.sleep(0.005)

    watching = threading.Thread(target=watch, daemon=True)
    watching.start()
    try:
        yield found
    finally:
        done.set()
        watching.join()


@pytest.mark.parametrize("where", ["folder", pytest.param("s3", marks=pytest.mark.s3)])
async def test_a_large_recording_takes_no_memory(
    where: str, tmp_path: Path, sounds: SoundServer, request: pytest.FixtureRequest
) -> None:
    url = request.getfixturevalue("s3") if where == "s3" else (tmp_path / "sounds").as_uri()
    settings = load_settings(data_dir=tmp_path / "data", recording_private_hosts=[sounds.address], recordings_url=url)
    migrate(settings)
    books = Books(settings, open_engine(settings), tmp_path / "sounds")
    storage = Storage.open(settings)
    sounds.paths |= {"/small": WAV, "/large": large}
    books.hear(called("small", sounds.url("/small")))
    async with books.downloading():
        small = await books.until("small", status="stored")
        assert await storage.read(small["object"]) is not None  # whatever is loaded once has been
        with growth() as stored:
            books.hear(called("large", sounds.url("/large")))
            row = await books.until("large", 200, status="stored")
    with growth() as read:
        assert await storage.read(row["object"]) == (row["bytes"], row["sha256"])
    books.engine.dispose()
    assert row["bytes"] == len(WAV) + BLOCKS * len(BLOCK)
    assert stored[0] < MOST_BYTES
    assert read[0] < MOST_BYTES
