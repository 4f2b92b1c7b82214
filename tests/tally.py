"""A consumer of the tests: it adds up, so that an event seen twice or never shows. Runs as a process of its own too."""

import asyncio
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import msgspec
from sqlalchemy import BigInteger, Column, Connection, Engine, MetaData, Table, Text, select

from consumers import outbox
from consumers.contract import UnreadableEvent
from consumers.database import open_engine
from consumers.process import run_consumer
from consumers.rows import upsert
from runtime.process import run
from runtime.settings import load_settings
from schemas.event import CHARGED, Record
from schemas.topics import BILLING_CHARGES, CALLS_ENDED, Topic

metadata = MetaData()
tally = Table("tally", metadata, Column("name", Text, primary_key=True), Column("total", BigInteger, nullable=False))


class Counted(msgspec.Struct):
    """The value of an event: add `n` to the total; `what` may be `poison` (raises) or `unreadable`."""

    n: int
    what: str = ""


class Tally:
    name = "tally"
    topics: tuple[Topic, ...] = (CALLS_ENDED,)
    thread_safe = True

    def __init__(self, pause_s: float = 0.0, diary: Path | None = None) -> None:
        """`diary` gets a byte for each batch begun, so that another process can tell when one is in flight."""
        self.handled: list[tuple[int, int]] = []  # also what was rolled back
        self._pause_s = pause_s
        self._diary = diary

    def handle(self, tx: Connection, records: Sequence[Record]) -> None:
        self.handled += [(record.partition, record.offset) for record in records]
        for record in records:
            counted = msgspec.json.decode(record.value or b"", type=Counted)
            if counted.what == "poison":
                raise ZeroDivisionError("poison for +15550100")
            if counted.what == "unreadable":
                raise UnreadableEvent("no event")
        for record in records:
            n = msgspec.json.decode(record.value or b"", type=Counted).n
            total = tx.execute(select(tally.c.total).where(tally.c.name == self._of(record))).scalar() or 0
            upsert(tx, tally, [{"name": self._of(record), "total": total + n}])
        if self._diary is not None:
            with self._diary.open("ab") as diary:
                diary.write(b".")
        time.sleep(self._pause_s)
        outbox.post(tx, self.name, [self._derived(record) for record in records])

    def _of(self, record: Record) -> str:
        return f"partition {record.partition}"  # a row of its own: processes with other partitions don't meet here

    def _derived(self, record: Record) -> outbox.OutboxEvent:
        return outbox.OutboxEvent(
            topic=BILLING_CHARGES,
            caller_id=(record.key or b"").decode(),
            event_type=CHARGED,
            event_id=f"derived-of-{record.partition}-{record.offset}",
            time=record.appended_ms * 1000,
            session_id="session",
            value=record.value or b"",
        )


def total(engine: Engine) -> int:
    with engine.connect() as tx:
        return sum(tx.execute(select(tally.c.total)).scalars())


def main() -> int:
    """With the settings of the environment. Arguments: how long each batch takes, in seconds, and the diary."""
    settings = load_settings()
    engine = open_engine(settings)

    async def consume(stop: asyncio.Event) -> int:
        await run_consumer(settings, Tally(float(sys.argv[1]), Path(sys.argv[2])), engine, stop, [])
        return 0

    return run(consume)


if __name__ == "__main__":
    sys.exit(main())
