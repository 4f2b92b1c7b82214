"""Workers share the work: no two of them have the same row, and as many fetch at once as there are to be."""

import asyncio
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from aiohttp import web

from consumers.database import migrate, open_engine
from consumers.recordings.work_table import WorkTable
from runtime.settings import load_settings
from tests.unit.consumers.recordings.books import Books
from tests.unit.consumers.recordings.downloading_process import downloading_process
from tests.unit.consumers.recordings.sound_server import WAV, SoundServer
from tests.unit.consumers.recordings.test_downloader import called

AT_ONCE = 50


@pytest.fixture
def shared(new_database: Callable[[], str], tmp_path: Path, sounds: SoundServer) -> Iterator[Books]:
    """On PostgreSQL, which several processes may share."""
    settings = load_settings(
        database_url=new_database(), data_dir=tmp_path / "data", recording_private_hosts=[sounds.address]
    )
    migrate(settings)
    engine = open_engine(settings)
    yield Books(settings, engine, tmp_path / "data" / "recordings")
    engine.dispose()


def test_no_two_claims_give_the_same_row_however_they_race(shared: Books) -> None:
    """Each thread has its own connections, as a process would."""
    shared.hear(*(called(f"s{n}", "https://sound.example/") for n in range(400)))
    begin, claimed = threading.Barrier(6), Counter[str]()

    def claim() -> None:
        engine = open_engine(shared.settings)
        table = WorkTable(engine)
        begin.wait()
        while sum(claimed.values()) < 400:
            for job in table.claim(3):
                claimed[job.session_id] += 1
        engine.dispose()

    threads = [threading.Thread(target=claim, daemon=True) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(claimed) == 400
    assert {session: count for session, count in claimed.items() if count > 1} == {}


async def test_processes_share_the_work_and_fetch_nothing_twice(shared: Books, sounds: SoundServer) -> None:
    sounds.paths |= {f"/{n}": WAV + bytes([n]) for n in range(200)}
    settings = shared.settings.model_copy(update={"recording_workers": 10})
    with ExitStack() as stack:
        processes = [stack.enter_context(downloading_process(settings)) for _ in range(3)]
        await asyncio.sleep(2)  # all are there when the work comes
        await asyncio.to_thread(shared.hear, *(called(f"s{n}", sounds.url(f"/{n}")) for n in range(200)))
        for n in range(200):
            await shared.until(f"s{n}", status="stored")
        assert [process.poll() for process in processes] == [None] * 3
    assert sorted(sounds.asked()) == sorted(f"/{n}" for n in range(200))
    assert sorted(shared.files().values()) == sorted(WAV + bytes([n]) for n in range(200))


async def test_as_many_fetch_at_once_as_there_are_workers(books: Books, sounds: SoundServer) -> None:
    """No sound is sent before all were asked for."""
    all_ask = asyncio.Event()

    async def together(_: web.Request) -> web.Response:
        if len(sounds.requests) == AT_ONCE:
            all_ask.set()
        await all_ask.wait()
        return web.Response(body=WAV)

    sounds.paths |= dict.fromkeys((f"/{n}" for n in range(AT_ONCE)), together)
    books.hear(*(called(f"s{n}", sounds.url(f"/{n}")) for n in range(AT_ONCE)))
    async with books.downloading(recording_workers=AT_ONCE):
        for n in range(AT_ONCE):
            await books.until(f"s{n}", status="stored")
