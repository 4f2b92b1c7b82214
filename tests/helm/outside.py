"""What a release needs and the chart does not bring: a Kafka and a PostgreSQL, on this machine, reached from pods."""

import asyncio
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import psycopg

from runtime.settings import Settings, load_settings
from schemas.event import Record
from schemas.topics import Topic
from tests.edge import records_of
from tests.faults.own_postgres import OwnPostgres, own_postgres
from tests.helm.doorway import doorway
from tests.sources.secure_kafka import SecureKafka, secure_kafka

PARTITIONS = 4


@dataclass(frozen=True)
class Outside:
    """`host` is this machine, as pods reach it; `database_port` leads to the server's socket."""

    host: str
    kafka: SecureKafka
    postgres: OwnPostgres
    database_port: int

    def new_database(self) -> str:
        """Its name."""
        name = f"t{secrets.token_hex(4)}"
        self.postgres.execute(f"CREATE DATABASE {name}")
        return name

    def database_url(self, name: str) -> str:
        """For pods."""
        return f"postgresql://postgres@{self.host}:{self.database_port}/{name}"

    def rows(self, database: str, query: str) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.postgres.url.replace("/books?", f"/{database}?")) as connection:
            return connection.execute(query.encode()).fetchall()

    def records(self, prefix: str, topic: Topic) -> list[Record]:
        """All that lies in a topic now."""
        return asyncio.run(records_of(self.settings(prefix), topic))

    def settings(self, prefix: str) -> Settings:
        return load_settings(kafka_bootstrap_servers=self.kafka.loopback, topic_prefix=prefix)


@contextmanager
def open_outside(host: str, folder: Path) -> Iterator[Outside]:
    """Raises `LocalKafkaError`, and `Unavailable` without openssl."""
    with secure_kafka(folder, host) as kafka, own_postgres() as postgres:
        socket_folder = Path(parse_qs(urlsplit(postgres.url).query)["host"][0])
        (socket,) = (path for path in socket_folder.glob(".s.PGSQL.*") if path.is_socket())
        with doorway(host, socket) as port:
            yield Outside(host, kafka, postgres, port)
