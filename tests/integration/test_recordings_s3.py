"""Recordings in a real S3: whole or not at all, under their prefix, found again, and in no hurry while it is away."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import obstore
import pytest
from aiohttp import web
from obstore.store import ObjectStore, from_url

from consumers.database import migrate, open_engine
from consumers.recordings.backoff import STORAGE_AWAY_DELAY_S
from consumers.recordings.work_table import LEASE_S
from runtime.settings import load_settings
from tests.sources.origin import require
from tests.sources.s3 import BUCKET, Gateway, aws_variables, own_gateway
from tests.unit.consumers.recordings.books import ANYTHING, Books
from tests.unit.consumers.recordings.downloading_process import downloading_process
from tests.unit.consumers.recordings.sound_server import WAV, SoundServer, serving
from tests.unit.consumers.recordings.test_downloader import OBJECT, called

pytestmark = pytest.mark.s3

LARGE = WAV * 800  # 13 MB: three parts


@pytest.fixture
async def sounds() -> AsyncIterator[SoundServer]:
    async with serving() as server:
        yield server


@pytest.fixture
def books(database_url: str, tmp_path: Path, sounds: SoundServer, s3: str) -> Iterator[Books]:
    yield from _books(database_url, tmp_path, sounds, s3)


def _books(database_url: str, tmp_path: Path, sounds: SoundServer, recordings_url: str) -> Iterator[Books]:
    settings = load_settings(
        database_url=database_url,
        data_dir=tmp_path / "data",
        recording_private_hosts=[sounds.address],
        recordings_url=recordings_url,
    )
    migrate(settings)
    engine = open_engine(settings)
    yield Books(settings, engine, tmp_path / "none")
    engine.dispose()


@pytest.fixture
def gateway(monkeypatch: pytest.MonkeyPatch) -> Iterator[Gateway]:
    """A server that the test may stop, and whose folder it may look into."""
    with ExitStack() as stack:
        gateway = require(own_gateway(), stack)
        for name, value in aws_variables(gateway.address).items():
            monkeypatch.setenv(name, value)
        yield gateway


@pytest.fixture
def own_books(tmp_path: Path, sounds: SoundServer, gateway: Gateway) -> Iterator[Books]:
    yield from _books(f"sqlite:///{tmp_path / 'books.db'}", tmp_path, sounds, f"s3://{BUCKET}/prefix")


def objects(url: str) -> dict[str, int]:
    store: ObjectStore = from_url(url)
    return {it["path"]: it["size"] for page in obstore.list(store) for it in page}


def unfinished(gateway: Gateway) -> list[Path]:
    """Parts of uploads that nobody completed, where versitygw keeps them."""
    return [it for it in (gateway.folder / BUCKET / ".sgwtmp" / "multipart").rglob("*") if it.is_file()]


@pytest.mark.parametrize("sound", [WAV, LARGE], ids=["one part", "three parts"])
async def test_a_recording_is_stored_whole_under_the_prefix_as_what_it_is(
    books: Books, sounds: SoundServer, s3: str, sound: bytes
) -> None:
    sounds.paths["/1"] = sound
    books.hear(called("s1", sounds.url("/1")))
    async with books.downloading():
        row = await books.until("s1", status="stored")
    assert (row["object"], row["bytes"], row["sha256"]) == (OBJECT, len(sound), hashlib.sha256(sound).hexdigest())
    bucket, _, prefix = s3.removeprefix("s3://").partition("/")
    found = obstore.get(from_url(f"s3://{bucket}"), f"{prefix}/{OBJECT}")
    assert found.attributes["Content-Type"] == "audio/wav"
    assert bytes(found.bytes()) == sound


async def test_a_lost_database_is_rebuilt_without_asking_the_network(books: Books, sounds: SoundServer) -> None:
    sounds.paths["/1"] = LARGE
    record = called("s1", sounds.url("/1"))
    books.hear(record)
    async with books.downloading():
        await books.until("s1", status="stored")
    before = books.rows(), books.outbox()
    books.forget()
    books.hear(record)
    async with books.downloading():
        await books.until("s1", status="stored")
    assert (books.rows(), books.outbox()) == before
    assert sounds.asked() == ["/1"]


async def stalled(request: web.Request) -> web.StreamResponse:
    """Two parts and some more, then nothing."""
    response = web.StreamResponse()
    await response.prepare(request)
    await response.write(LARGE[: 11 * 1024 * 1024])
    await asyncio.sleep(60)
    return response


async def test_what_is_stopped_in_the_middle_leaves_nothing_not_even_parts(
    own_books: Books, sounds: SoundServer, gateway: Gateway
) -> None:
    sounds.paths["/1"] = stalled
    own_books.hear(called("s1", sounds.url("/1")))
    async with own_books.downloading():
        async with asyncio.timeout(20):
            while len(unfinished(gateway)) < 2:  # noqa: ASYNC110 - another process writes them
                await asyncio.sleep(0.05)
        assert objects(own_books.settings.recordings) == {}
    assert unfinished(gateway) == []
    assert objects(own_books.settings.recordings) == {}
    row = own_books.row("s1")
    assert (row["status"], row["attempts"], row["leased_until"]) == ("pending", 0, 0)


async def test_what_is_killed_in_the_middle_is_no_object_and_begins_anew(
    own_books: Books, sounds: SoundServer, gateway: Gateway
) -> None:
    sounds.paths["/1"] = stalled
    own_books.hear(called("s1", sounds.url("/1")))
    with downloading_process(own_books.settings):
        async with asyncio.timeout(20):
            while len(unfinished(gateway)) < 2:  # noqa: ASYNC110 - another process writes them
                await asyncio.sleep(0.05)
    assert objects(own_books.settings.recordings) == {}
    sounds.paths["/1"] = LARGE
    own_books.pass_time(LEASE_S)
    async with own_books.downloading():
        row = await own_books.until("s1", status="stored")
    assert row["sha256"] == hashlib.sha256(LARGE).hexdigest()
    assert objects(own_books.settings.recordings) == {OBJECT: len(LARGE)}


async def test_what_breaks_off_is_no_object(books: Books, sounds: SoundServer, s3: str) -> None:
    async def breaking(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"content-length": str(len(LARGE))})
        await response.prepare(request)
        await response.write(LARGE[: 11 * 1024 * 1024])
        assert request.transport is not None
        request.transport.close()
        return response

    sounds.paths["/1"] = breaking
    books.hear(called("s1", sounds.url("/1")))
    async with books.downloading():
        row = await books.until("s1", attempts=1, leased_until=0)
    assert "broke off" in str(row["error"])
    assert objects(s3) == {}


async def test_an_s3_that_is_away_costs_no_attempt(own_books: Books, sounds: SoundServer, gateway: Gateway) -> None:
    sounds.paths["/1"] = LARGE
    own_books.hear(called("s1", sounds.url("/1")))
    gateway.stop()
    async with own_books.downloading():
        row = await own_books.until("s1", status="pending", attempts=0, leased_until=0, error=ANYTHING)
        assert "Error" in str(row["error"])
        assert sounds.requests == [], "it would have been in vain"
        gateway.start()
        own_books.pass_time(STORAGE_AWAY_DELAY_S)
        await own_books.until("s1", status="stored")
    assert objects(own_books.settings.recordings) == {OBJECT: len(LARGE)}


async def test_an_s3_that_goes_away_in_the_middle_costs_no_attempt(
    own_books: Books, sounds: SoundServer, gateway: Gateway
) -> None:
    gone = asyncio.Event()

    async def slowly(request: web.Request) -> Any:
        response = web.StreamResponse(headers={"content-length": str(len(LARGE))})
        await response.prepare(request)
        await response.write(LARGE[: 11 * 1024 * 1024])
        await gone.wait()
        await response.write(LARGE[11 * 1024 * 1024 :])
        return response

    sounds.paths["/1"] = slowly
    own_books.hear(called("s1", sounds.url("/1")))
    async with own_books.downloading():
        async with asyncio.timeout(20):
            while not unfinished(gateway):  # noqa: ASYNC110 - another process writes them
                await asyncio.sleep(0.05)
        await asyncio.to_thread(gateway.stop)
        gone.set()
        await own_books.until("s1", status="pending", attempts=0, leased_until=0, error=ANYTHING)
        gateway.start()
        own_books.pass_time(STORAGE_AWAY_DELAY_S)
        await own_books.until("s1", status="stored")
    assert objects(own_books.settings.recordings) == {OBJECT: len(LARGE)}


async def test_a_bucket_that_is_not_there_is_storage_that_is_away(
    own_books: Books, sounds: SoundServer, gateway: Gateway
) -> None:
    sounds.paths["/1"] = WAV
    own_books.hear(called("s1", sounds.url("/1")))
    async with own_books.downloading(recordings_url="s3://elsewhere/prefix"):
        row = await own_books.until("s1", status="pending", leased_until=0, error=ANYTHING)
    assert row["attempts"] == 0
