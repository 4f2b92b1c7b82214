from collections.abc import Iterator
from pathlib import Path

import pytest

from service.journal.spool import Spool
from tests.unit.service.journal.spooled import MAX_BYTES


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "spool"


@pytest.fixture
def spool(directory: Path) -> Iterator[Spool]:
    opened = Spool(directory, MAX_BYTES)
    yield opened
    opened.close()
