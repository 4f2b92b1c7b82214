"""A server of recordings, and the books that a downloader keeps of it."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from consumers.database import migrate, open_engine
from runtime.settings import load_settings
from tests.unit.consumers.recordings.books import Books
from tests.unit.consumers.recordings.sound_server import SoundServer, serving


@pytest.fixture
async def sounds() -> AsyncIterator[SoundServer]:
    async with serving() as server:
        yield server


@pytest.fixture
def books(database_url: str, tmp_path: Path, sounds: SoundServer) -> Iterator[Books]:
    settings = load_settings(
        database_url=database_url, data_dir=tmp_path / "data", recording_private_hosts=[sounds.address]
    )
    migrate(settings)
    engine = open_engine(settings)
    yield Books(settings, engine, tmp_path / "data" / "recordings")
    engine.dispose()
