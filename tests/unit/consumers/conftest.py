"""Databases with their tables."""

from collections.abc import Iterator

import pytest
from sqlalchemy import Engine

from consumers import database
from runtime.settings import load_settings


@pytest.fixture
def engine(database_url: str) -> Iterator[Engine]:
    """A migrated database, one of each kind."""
    settings = load_settings(database_url=database_url)
    database.migrate(settings)
    engine = database.open_engine(settings)
    yield engine
    engine.dispose()
