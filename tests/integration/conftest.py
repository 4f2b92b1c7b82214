"""What integration tests share."""

from collections.abc import AsyncIterator

import pytest

from runtime.settings import Settings
from tests.edge import Edge, running


@pytest.fixture
async def edge(settings: Settings, topics: tuple[str, ...]) -> AsyncIterator[Edge]:
    """The service, connected to Kafka."""
    async with running(settings) as edge:
        yield edge
