"""One process of a consumer: what it answers, and how it ends."""

import asyncio
import contextlib
import socket

import aiohttp
import msgspec
import pytest
from sqlalchemy import update

from consumers import database, process
from consumers.positions import Move, advance
from consumers.tables import positions
from runtime.process import EXIT_STUCK
from runtime.settings import Settings, SettingsError
from runtime.topics import apply
from schemas.topics import CALLS_ENDED


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def answer(url: str) -> tuple[int, str]:
    """Waits for the listener, not for readiness."""
    async with asyncio.timeout(20), aiohttp.ClientSession() as session:
        while True:
            with contextlib.suppress(aiohttp.ClientConnectionError):
                async with session.get(url) as response:
                    return response.status, await response.text()
            await asyncio.sleep(0.05)


@pytest.mark.parametrize("name", ["billing", "transcripts", "recordings"])
async def test_a_process_is_ready_once_it_has_its_tables_and_its_partitions(
    settings: Settings, topics: tuple[str, ...], name: str
) -> None:
    own = settings.model_copy(update={"ops_port": free_port()})
    stop = asyncio.Event()
    running = asyncio.create_task(process.consume(own, name, stop))
    ready = f"http://127.0.0.1:{own.ops_port}/health/ready"
    status, said = await answer(ready)
    assert (status, "ringlog migrate" in said) == (503, True)
    await asyncio.to_thread(database.migrate, own)
    async with asyncio.timeout(20):
        while (await answer(ready))[0] != 200:  # noqa: ASYNC110 - another process would poll as well
            await asyncio.sleep(0.05)
    said = (await answer(ready))[1]
    assert f"{CALLS_ENDED.named(own.topic_prefix)}/0" in said
    assert '"database":"there"' in said
    stop.set()
    assert await asyncio.wait_for(running, 12) == 0


async def test_positions_of_another_cluster_end_the_process(settings: Settings, topics: tuple[str, ...]) -> None:
    database.migrate(settings)
    engine = database.open_engine(settings)
    with engine.begin() as tx:
        advance(tx, "billing", "another", [Move(CALLS_ENDED.named(settings.topic_prefix), 0, None, 1)])
        tx.execute(update(positions).values(next_offset=0))
    assert await asyncio.wait_for(process.consume(settings, "billing", asyncio.Event()), 30) == EXIT_STUCK
    engine.dispose()


@pytest.mark.parametrize("name", ["billing", "profiles"])
async def test_a_topic_that_forgets_ends_the_process(settings: Settings, name: str) -> None:
    await apply(settings, topics=[msgspec.structs.replace(CALLS_ENDED, retention_ms=604_800_000)])
    await apply(settings)
    database.migrate(settings)
    with pytest.raises(SettingsError, match=CALLS_ENDED.named(settings.topic_prefix)):
        await asyncio.wait_for(process.consume(settings, name, asyncio.Event()), 30)


async def test_an_unknown_consumer_is_answered_with_the_known_ones(settings: Settings) -> None:
    with pytest.raises(SettingsError, match="there is no consumer 'biling': name one of billing, calls, profiles"):
        await process.consume(settings, "biling", asyncio.Event())
