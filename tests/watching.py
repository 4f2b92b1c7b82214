"""Reads a profile all the time, as the service does, to see what it gets while stores come and go."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

from runtime.settings import Settings
from state.reader import ProfileReader
from tests.building import eventually


class Watch:
    """Reads Ann's profile all the time, from the moment it can be read, as the service does."""

    def __init__(self, reader: ProfileReader) -> None:
        self.reader = reader
        self.calls: list[int] = []
        self.generations: list[str | None] = []
        self.metadata: list[Any] = []
        self.unavailable = 0

    async def run(self) -> None:
        while True:
            self.reader.refresh()
            for _ in range(10):
                profile = self.reader.get("ann")
                if profile is None:
                    self.unavailable += 1
                else:
                    self.calls.append(profile.calls)
                    if profile.metadata not in self.metadata[-1:]:
                        self.metadata.append(profile.metadata)
                if self.reader.generation not in self.generations[-1:]:
                    self.generations.append(self.reader.generation)
                await asyncio.sleep(0.001)


@contextlib.asynccontextmanager
async def watching(settings: Settings) -> AsyncIterator[Watch]:
    reader = ProfileReader(settings.state_dir)

    def is_there() -> bool:
        reader.refresh()
        return reader.available

    await eventually(is_there)
    watch = Watch(reader)
    running = asyncio.create_task(watch.run())
    try:
        yield watch
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running
    finally:
        running.cancel()
        reader.close()
