"""The table of recordings, the folder, and a clock that a test can put forward."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, Executable, delete, select

from consumers.outbox import Posted
from consumers.recordings import Downloader, Recordings
from consumers.tables import outbox, recordings, revisions, sessions
from runtime.clock import system_clock
from runtime.settings import Settings
from schemas.event import Record
from tests.posted import events_in

ANYTHING = object()  # in `Books.until`: whatever is not None


class Books:
    def __init__(self, settings: Settings, engine: Engine, folder: Path) -> None:
        self.settings = settings
        self.engine = engine
        self.folder = folder
        self._ahead_us = 0

    def clock(self) -> int:
        return system_clock() + self._ahead_us

    def pass_time(self, seconds: float) -> None:
        self._ahead_us += int(seconds * 1_000_000)

    def hear(self, *records: Record) -> None:
        with self.engine.begin() as tx:
            Recordings().handle(tx, records)

    def write(self, statement: Executable) -> None:
        with self.engine.begin() as tx:
            tx.execute(statement)

    def forget(self) -> None:
        """The database is lost; the folder is not."""
        with self.engine.begin() as tx:
            for table in (recordings, revisions, sessions, outbox):
                tx.execute(delete(table))

    def outbox(self) -> list[Posted]:
        return events_in(self.engine, "recordings")

    def row(self, session_id: str) -> dict[str, Any]:
        with self.engine.connect() as reading:
            found = reading.execute(select(recordings).where(recordings.c.session_id == session_id)).mappings().one()
            return dict(found)

    def rows(self) -> list[dict[str, Any]]:
        with self.engine.connect() as reading:
            found = reading.execute(select(recordings).order_by(recordings.c.session_id)).mappings()
            return [dict(row) for row in found]

    def files(self) -> dict[str, bytes]:
        return {
            str(path.relative_to(self.folder)): path.read_bytes() for path in self.folder.rglob("*") if path.is_file()
        }

    @contextlib.asynccontextmanager
    async def downloading(self, **changed: object) -> AsyncIterator[None]:
        """A downloader at work, as a process of its own would be."""
        downloader = Downloader(self.settings.model_copy(update=changed), self.engine, self.clock)
        stop = asyncio.Event()
        running = asyncio.create_task(downloader.run(stop))
        try:
            yield
        finally:
            stop.set()
            await running

    async def until(self, session_id: str, within_s: float = 20, **values: object) -> dict[str, Any]:
        """The session's row, once it has these values."""
        async with asyncio.timeout(within_s):
            while True:
                row = await asyncio.to_thread(self.row, session_id)
                if all(
                    row[name] == value or (value is ANYTHING and row[name] is not None)
                    for name, value in values.items()
                ):
                    return row
                await asyncio.sleep(0.02)
