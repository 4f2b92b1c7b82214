"""`ringlog` as its user runs it, in this process and on the settings of a test."""

import json
from typing import Any

from aiokafka import AIOKafkaProducer
from typer.testing import CliRunner, Result

from cli.main import app
from runtime.kafka import make_producer, start_within, stop_within
from runtime.settings import Settings
from schemas.event import Record
from tests.logging_restored import logs_restored


def environment(settings: Settings) -> dict[str, str]:
    assert settings.identity_key is not None
    named = {
        "KAFKA_BOOTSTRAP_SERVERS": settings.bootstrap_servers,
        "TOPIC_PREFIX": settings.topic_prefix,
        "DATABASE_URL": settings.database,
        "DATA_DIR": str(settings.data_dir),
        "IDENTITY_KEY": settings.identity_key.get_secret_value(),
    }
    return {"COLUMNS": "200", **{f"RINGLOG_{name}": value for name, value in named.items()}}


class Command:
    """Outside of any loop: the command has its own."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings

    def __call__(self, *arguments: str, code: int = 0) -> Result:
        with logs_restored():
            result = CliRunner().invoke(app, arguments, env=environment(self.settings))
        assert "Traceback" not in result.stderr
        assert result.exit_code == code, result.output
        return result

    def json(self, *arguments: str, code: int = 0) -> Any:
        return json.loads(self(*arguments, "--json", code=code).stdout)


async def publish(settings: Settings, *records: Record, producer: AIOKafkaProducer = None) -> None:
    """Each to the topic (under the test's prefix) and the partition that it names, in this order."""
    ours = producer or make_producer(settings)
    if producer is None:
        await start_within(ours)
    try:
        for it in records:
            name = settings.topic_prefix + it.topic
            await ours.send_and_wait(name, it.value, key=it.key, partition=it.partition, headers=list(it.headers))
    finally:
        if producer is None:
            await stop_within(ours)
