"""`ringlog reconcile` as a process: once and as a loop, beside what runs here, while Kafka is not as it should be."""

import asyncio
import json
import os
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import aiohttp
import pytest

from cli.running import Running
from consumers.database import migrate
from runtime.settings import Settings
from runtime.topics import apply
from schemas.event import decode_envelope
from schemas.topics import CALLS_ENDED
from tests.building import DEADLINE_S
from tests.faults.whole_topic import whole_topic
from tests.integration.call_api import Provider, provided, told
from tests.integration.test_serve_command import ROOT


@pytest.fixture
async def provider() -> AsyncIterator[Provider]:
    async with provided() as provider:
        yield provider


def what_runs_here(settings: Settings) -> None:
    """As `ringlog up` tells other commands."""
    migrate(settings)
    assert settings.identity_key is not None
    settings.data_dir.mkdir(parents=True, exist_ok=True)
    Running(
        bootstrap_servers=settings.bootstrap_servers,
        webhooks_url="http://127.0.0.1:8080",
        ops_url="http://127.0.0.1:9090",
        database_url=settings.database,
        recordings_url=settings.recordings,
        state_dir=str(settings.state_dir),
        webhook_key="key",
        settings={
            "RINGLOG_IDENTITY_KEY": settings.identity_key.get_secret_value(),
            "RINGLOG_TOPIC_PREFIX": settings.topic_prefix,
            "RINGLOG_HOST": "127.0.0.1",
        },
    ).write(settings.data_dir)


async def start(settings: Settings, provider: Provider, *arguments: str) -> Process:
    """It is told where the data are, and the provider: all else it finds by itself."""
    said = {
        "RINGLOG_DATA_DIR": str(settings.data_dir),
        "RINGLOG_MILLIS_API_URL": provider.url,
        "RINGLOG_MILLIS_API_KEY": "private",
        "RINGLOG_LOG_FORMAT": "json",
        "COLUMNS": "200",
    }
    return await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "cli.main", "reconcile", "--rate", "1000", *arguments),
        env={**os.environ, **said},
        cwd=ROOT,
        stdout=PIPE,
        stderr=PIPE,
    )


class Loop:
    def __init__(self, process: Process) -> None:
        self._process = process
        self.port = 0

    async def logged(self, event: str) -> dict[str, Any]:
        """The next line of its log that says so."""
        assert self._process.stderr is not None
        seen = []
        async with asyncio.timeout(DEADLINE_S):
            while line := await self._process.stderr.readline():
                seen.append(line)
                if (found := json.loads(line))["event"] == event:
                    return dict(found)
        raise AssertionError(f"it never said {event!r}: {seen}")

    async def printed(self) -> dict[str, int]:
        """Its next line for programs."""
        assert self._process.stdout is not None
        return dict(json.loads(await asyncio.wait_for(self._process.stdout.readline(), DEADLINE_S)))

    async def health(self) -> dict[str, Any]:
        async with aiohttp.ClientSession() as http, http.get(f"http://127.0.0.1:{self.port}/health/ready") as answer:
            return dict(await answer.json())

    async def stopped(self) -> int:
        self._process.send_signal(signal.SIGTERM)
        await asyncio.wait_for(self._process.wait(), DEADLINE_S)
        assert self._process.returncode is not None
        return self._process.returncode


@asynccontextmanager
async def loop(settings: Settings, provider: Provider, *arguments: str) -> AsyncIterator[Loop]:
    process = await start(settings, provider, "--every", "1s", *arguments)
    try:
        running = Loop(process)
        running.port = (await running.logged("started"))["ops_port"]
        yield running
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()


async def test_a_loop_beside_what_runs_here_tells_programs_of_each_pass(
    settings: Settings, topics: tuple[str, ...], provider: Provider
) -> None:
    what_runs_here(settings)
    provider.calls, provider.listed = {"a": told("a")}, ["a"]
    async with loop(settings, provider, "--json") as running:
        first = await running.printed()
        (record,) = await whole_topic(settings, CALLS_ENDED)
        assert decode_envelope(record.value or b"").session_id == "a"
        assert first["recovered"] == 1
        assert await running.stopped() == 0


async def test_a_loop_outlives_a_kafka_that_lacks_a_topic(settings: Settings, provider: Provider) -> None:
    what_runs_here(settings)
    await apply(settings, topics=[CALLS_ENDED])
    async with loop(settings, provider, "--json") as running:
        broken = await running.logged("a pass was broken off")
        missing = f"{settings.topic_prefix}calls.prefetch"
        assert broken["reason"] == f"Kafka has no topic {missing}: run `ringlog topics apply`."
        assert (await running.printed())["known"] == 0
        await apply(settings)
        await running.logged("a pass is complete")
        assert (await running.health())["last"] == "complete"
        assert await running.stopped() == 0


async def test_once_without_a_topic_it_is_one_sentence(settings: Settings, provider: Provider) -> None:
    what_runs_here(settings)
    await apply(settings, topics=[CALLS_ENDED])
    process = await start(settings, provider, "--json")
    out, said = await asyncio.wait_for(process.communicate(), DEADLINE_S)
    assert (process.returncode, out) == (1, b"")
    assert said.decode() == f"Kafka has no topic {settings.topic_prefix}calls.prefetch: run `ringlog topics apply`.\n"
