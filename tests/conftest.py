"""What tests stand on: a real broker, a real database, and settings under which tests don't meet each other."""

import asyncio
import os
import secrets
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
import pytest
from psycopg import sql
from sqlalchemy import Engine

from consumers.database import migrate, open_engine
from runtime.kafka import make_admin, start_within, stop_within
from runtime.settings import Settings, load_settings
from runtime.topics import apply
from tests.sources.kafka import open_kafka, wait_for_groups
from tests.sources.origin import Server, require
from tests.sources.postgres import open_postgres
from tests.sources.s3 import aws_variables, bucket_of, open_s3

# Fewer than on a cluster, more than one: what holds for a partition must not seem to hold for a topic.
PARTITIONS = 2

# Where caches lie and which Java runs is the machine's; a test says all other settings itself.
_KEPT = ("RINGLOG_TEST_", "RINGLOG_CACHE_DIR", "RINGLOG_JAVA")

_used = pytest.StashKey[dict[str, str]]()


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_used] = {}
    for name in [name for name in os.environ if name.startswith("RINGLOG_") and not name.startswith(_KEPT)]:
        del os.environ[name]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    for what, description in config.stash[_used].items():
        terminalreporter.write_line(f"{what}: {description}")


def _address(config: pytest.Config, what: str, source: AbstractContextManager[Server], stack: ExitStack) -> str:
    server = require(source, stack)
    config.stash[_used][what] = server.description
    return server.address


@pytest.fixture(scope="session")
def kafka(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Bootstrap servers of a real broker, one for the whole run."""
    with ExitStack() as stack:
        servers = _address(request.config, "Kafka", open_kafka(tmp_path_factory.mktemp("kafka")), stack)
        asyncio.run(wait_for_groups(load_settings(kafka_bootstrap_servers=servers)))
        yield servers


@pytest.fixture(scope="session")
def postgres(request: pytest.FixtureRequest) -> Iterator[str]:
    """URL of a real PostgreSQL server, one for the whole run; `new_database` makes a fresh database on it."""
    with ExitStack() as stack:
        yield _address(request.config, "PostgreSQL", open_postgres(), stack)


@pytest.fixture(scope="session")
def s3_server(request: pytest.FixtureRequest) -> Iterator[str]:
    """`http://key:secret@host:port/bucket` of a real S3 server, one for the whole run."""
    with ExitStack() as stack:
        yield _address(request.config, "S3", open_s3(), stack)


@pytest.fixture
def s3(s3_server: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """For `RINGLOG_RECORDINGS_URL`: the bucket, under a prefix of the test's own. The environment says the rest."""
    for name, value in aws_variables(s3_server).items():
        monkeypatch.setenv(name, value)
    return f"s3://{bucket_of(s3_server)}/t{secrets.token_hex(4)}/sounds"


@pytest.fixture
def settings(kafka: str, tmp_path: Path) -> Settings:
    """All of a ringlog's settings, with a topic prefix of its own, so that tests share one broker unseen.

    Change some by `settings.model_copy(update={...})`.
    """
    return load_settings(
        kafka_bootstrap_servers=kafka,
        topic_prefix=f"t{secrets.token_hex(4)}.",
        topic_partitions=PARTITIONS,
        data_dir=tmp_path / "data",
        host="127.0.0.1",
        port=0,
        ops_port=0,
        identity_key="identity-key-of-the-tests",
        webhook_keys={"tests": "webhook-secret-of-the-tests"},
        ops_key="ops-secret-of-the-tests",
    )


@pytest.fixture
async def topics(settings: Settings) -> AsyncIterator[tuple[str, ...]]:
    """The catalogue's topics under the test's prefix; their names."""
    names = tuple(status.name for status in (await apply(settings)).topics)
    yield names
    # A broker carries the topics of hundreds of tests, but ever more slowly.
    admin = make_admin(settings)
    await start_within(admin)
    await admin.delete_topics(list(names))
    await stop_within(admin)


@pytest.fixture
def new_database(postgres: str) -> Iterator[Callable[[], str]]:
    """Makes a fresh database on the server and returns its URL; all are dropped after the test."""
    made: list[str] = []

    def make() -> str:
        name = f"t{secrets.token_hex(4)}"
        with psycopg.connect(postgres, autocommit=True) as connection:
            connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        made.append(name)
        return _with_database(postgres, name)

    yield make
    with psycopg.connect(postgres, autocommit=True) as connection:
        for name in made:
            connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A fresh, empty database of each kind: a test with this fixture runs once on SQLite, once on PostgreSQL."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'books.db'}"
    make: Callable[[], str] = request.getfixturevalue("new_database")
    return make()


@pytest.fixture
def engine(database_url: str, tmp_path: Path) -> Iterator[Engine]:
    """The fresh database of either kind with all tables, as `ringlog migrate` makes them."""
    settings = load_settings(database_url=database_url, data_dir=tmp_path / "data")
    migrate(settings)
    engine = open_engine(settings)
    yield engine
    engine.dispose()


def _with_database(url: str, name: str) -> str:
    """The same server, another database."""
    return urlsplit(url)._replace(path=f"/{name}").geturl()
