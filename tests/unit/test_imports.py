"""Imports point one way: schemas <- state <- runtime <- service, consumers <- cli."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

# What each room may import of the others.
ALLOWED = {
    "schemas": set(),
    "state": {"schemas"},
    "runtime": {"schemas", "state"},
    "service": {"schemas", "state", "runtime"},
    "consumers": {"schemas", "state", "runtime"},
    "cli": {"schemas", "state", "runtime", "service", "consumers"},
}
# What only stands beside the product. No room may need it.
BESIDE = {"tests", "bench", "examples"}


def imports_of(source: str) -> Iterator[tuple[int, str]]:
    """Line and top-level package of each import, wherever in the file it stands."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name.partition(".")[0]) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.lineno, node.module.partition(".")[0]


def forbidden_in(room: str, source: str) -> list[tuple[int, str]]:
    rooms = (ALLOWED.keys() | BESIDE) - {room} - ALLOWED[room]
    return [(line, package) for line, package in imports_of(source) if package in rooms]


@pytest.mark.parametrize("room", ALLOWED)
def test_imports_go_one_way(room: str) -> None:
    files = sorted((ROOT / room).rglob("*.py"))
    assert files
    wrong = [
        f"{file.relative_to(ROOT)}:{line} imports {package}"
        for file in files
        for line, package in forbidden_in(room, file.read_text())
    ]
    assert wrong == []


@pytest.mark.parametrize(
    ("room", "source", "wrong"),
    [
        ("schemas", "from runtime.settings import Settings", [(1, "runtime")]),
        ("schemas", "import schemas.money", []),
        ("state", "import schemas, runtime.clock", [(1, "runtime")]),
        ("service", "def later():\n    from consumers.contract import Consumer", [(2, "consumers")]),
        ("consumers", "import service", [(1, "service")]),
        ("consumers", "from state.store import ProfileStore", []),
        ("runtime", "from cli import up", [(1, "cli")]),
        ("cli", "from tests.conftest import settings", [(1, "tests")]),
        ("cli", "from . import up", []),
    ],
)
def test_the_test_can_fail(room: str, source: str, wrong: list[tuple[int, str]]) -> None:
    assert forbidden_in(room, source) == wrong


IMPURE = {
    "asyncio",
    "socket",
    "aiokafka",
    "aiohttp",
    "lmdb",
    "sqlalchemy",
    "os",
    "pathlib",
    "pydantic_settings",
    "time",
}


@pytest.mark.parametrize("file", sorted((ROOT / "schemas").rglob("*.py")), ids=lambda file: file.name)
def test_schemas_are_pure(file: Path) -> None:
    """No I/O, no settings, no clock; but for the one file that writes documentation, which nothing imports."""
    source = file.read_text()
    if file.name != "export.py":
        assert [found for found in imports_of(source) if found[1] in IMPURE] == []
    assert "schemas.export import" not in source
