"""A small plan with everything in it, and books that say what it expects."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from cli.simulator.plan import Plan, Wish
from tests.unit.cli.simulator.filled_books import FilledBooks


@pytest.fixture(scope="module")
def plan() -> Plan:
    return Plan(Wish(120, 0.1, 0.1, 0.4, 5), "http://127.0.0.1:8099")


@pytest.fixture
def filled(tmp_path: Path, plan: Plan) -> Iterator[FilledBooks]:
    books = FilledBooks(tmp_path, plan)
    yield books
    books.engine.dispose()
