"""What integration tests share."""

from collections.abc import AsyncIterator, Callable

import pytest

from cli import context
from runtime.settings import Settings
from tests.edge import Edge, running
from tests.tallying import prepare


@pytest.fixture(autouse=True)
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a command prints is not cut to the terminal of whoever runs the tests, which was looked at long before."""
    for console in (context.out, context.err):
        monkeypatch.setattr(console, "_width", 200)


@pytest.fixture
async def edge(settings: Settings, topics: tuple[str, ...]) -> AsyncIterator[Edge]:
    """The service, connected to Kafka."""
    async with running(settings) as edge:
        yield edge


@pytest.fixture
async def prepared(settings: Settings, database_url: str) -> Settings:
    return await prepare(settings.model_copy(update={"database_url": database_url}))


@pytest.fixture
async def on_postgres(settings: Settings, new_database: Callable[[], str]) -> Settings:
    return await prepare(settings.model_copy(update={"database_url": new_database()}))


@pytest.fixture
async def on_sqlite(settings: Settings) -> Settings:
    return await prepare(settings)
