"""Whether the memory of a consumer stays where it is, over a million events. `make bench-memory`.

`ringlog consume billing` on PostgreSQL, as it is; the events are small, so that they are many.
"""

import asyncio
import json
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random
from typing import Annotated

import psycopg
import typer
from rich.console import Console
from rich.table import Table

from bench import cpu, ended
from bench.postgres import postgres
from bench.readers import RINGLOG, Reader, ReaderError
from consumers import database
from runtime import topics
from runtime.local_kafka import LocalKafka
from runtime.settings import load_settings

LOOK_EVERY_S = 0.5
STALLED_AFTER_S = 60.0
QUARTERS = 4
_MIB = 1024 * 1024

console = Console(stderr=True, highlight=False, soft_wrap=True)


@dataclass(frozen=True)
class Look:
    """`resident` bytes that the process has to itself, when so many events were in the books; `waiting` of the derived
    events had not left yet."""

    at: float
    events: int
    resident: int
    waiting: int


@dataclass(frozen=True)
class Quarter:
    """In MiB. The first begins when the first events are in the books."""

    events: int
    per_second: float
    median: float
    highest: float
    waiting: int


def looks(reader: Reader, url: str, events: int) -> Iterator[Look]:
    """Until all are in the books. Raises `ReaderError`."""
    moved, done = time.monotonic(), 0
    with psycopg.connect(url, autocommit=True) as connection:
        while done < events:
            time.sleep(LOOK_EVERY_S)
            now, before, done = time.monotonic(), done, reader.done(connection)
            moved = now if done > before else moved
            if now - moved > STALLED_AFTER_S:
                raise ReaderError(f"nothing was booked for {STALLED_AFTER_S:g} s, at {done} of {events}")
            if done:
                yield Look(now, done, cpu.resident_bytes(reader.pid), _waiting(connection))


def _waiting(connection: psycopg.Connection) -> int:
    row = connection.execute("SELECT coalesce(sum(events), 0) FROM outbox").fetchone()
    return int(row[0]) if row else 0


def quarters(found: Sequence[Look], events: int) -> list[Quarter]:
    of_quarter: list[list[Look]] = [[] for _ in range(QUARTERS)]
    for look in found:
        of_quarter[min(look.events * QUARTERS // events, QUARTERS - 1)].append(look)
    return [
        Quarter(
            events=some[-1].events,
            per_second=(some[-1].events - some[0].events) / (some[-1].at - some[0].at),
            median=statistics.median(look.resident for look in some) / _MIB,
            highest=max(look.resident for look in some) / _MIB,
            waiting=max(look.waiting for look in some),
        )
        for some in of_quarter
    ]


def run(events: int, partitions: int) -> list[Quarter]:
    """Raises `RuntimeError` with a sentence when the bench can't be run here."""
    shared_core, consumer_core = cpu.cores()
    with tempfile.TemporaryDirectory(prefix="ringlog-bench-") as name, postgres(shared_core) as server:
        with cpu.on_core(shared_core):
            kafka = LocalKafka(Path(name) / "kafka")
            kafka.start()
        try:
            url = server.new_database("books")
            settings = load_settings(
                kafka_bootstrap_servers=kafka.bootstrap_servers, topic_partitions=partitions, database_url=url
            )
            asyncio.run(topics.apply(settings))
            size = asyncio.run(ended.put(settings, ended.small_calls(events, Random(1))))
            console.print(f"{events} events of {size / events:.0f} bytes are in the topic")
            database.migrate(settings)
            environment = {
                "RINGLOG_KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap_servers,
                "RINGLOG_DATA_DIR": f"{name}/data",
            }
            reader = Reader(RINGLOG, "billing", environment, url, Path(name) / "billing.log")
            try:
                reader.start(consumer_core)
                return quarters(list(_told(looks(reader, url, events))), events)
            finally:
                reader.stop()
        finally:
            kafka.stop(0)


def _told(found: Iterator[Look]) -> Iterator[Look]:
    told = 0.0
    for look in found:
        if look.at - told >= 10:
            told = look.at
            console.print(f"{look.events:9} events, {look.resident / _MIB:.1f} MiB, {look.waiting} waiting to leave")
        yield look


def main(
    events: Annotated[int, typer.Option(help="How many.")] = 1_000_000,
    partitions: Annotated[int, typer.Option(help="Of the topic.")] = 4,
    json_: Annotated[bool, typer.Option("--json", help="Print JSON for programs.")] = False,
) -> None:
    """Watch the memory of the billing consumer."""
    try:
        found = run(events, partitions)
    except RuntimeError as error:
        console.print(f"error: {error}", markup=False)
        raise typer.Exit(1) from None
    if json_:
        print(json.dumps([asdict(one) for one in found], indent=2))
        return
    table = Table("quarter", "up to event", "events/s", "MiB, median", "MiB, highest", "most waiting to leave")
    for number, one in enumerate(found, 1):
        cells = f"{one.per_second:,.0f}", f"{one.median:.1f}", f"{one.highest:.1f}", f"{one.waiting:,}"
        table.add_row(str(number), f"{one.events:,}", *cells)
    Console().print(table)


if __name__ == "__main__":
    typer.run(main)
