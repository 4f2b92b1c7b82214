"""Publishing from a command: it waits for Kafka, and has no spool, which belongs to a service."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from runtime.kafka import KafkaUnavailable
from runtime.settings import Settings
from schemas.topics import Topic
from service.journal import Journal

CONNECT_WITHIN_S = 15.0


@asynccontextmanager
async def connected_journal(settings: Settings, topic: Topic, what: str, stop: asyncio.Event) -> AsyncIterator[Journal]:
    """A journal that is connected, or not, when `stop` was set meanwhile. `what` is to be published, for people.

    Raises `KafkaUnavailable`, and `SettingsError` when the settings can't work.
    """
    journal, done = Journal(settings.model_copy(update={"spool_max_bytes": 0}), (topic,)), asyncio.Event()
    running = asyncio.create_task(journal.run(done))
    try:
        deadline = asyncio.get_running_loop().time() + CONNECT_WITHIN_S
        while not journal.is_connected and not stop.is_set():
            if running.done() or asyncio.get_running_loop().time() > deadline:
                raise KafkaUnavailable(f"{what} can't be written: {journal.why_not_connected}.")
            await asyncio.sleep(0.02)
        yield journal
    finally:
        done.set()
        await running
