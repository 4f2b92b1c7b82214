"""What the books cost without Kafka: `handle` and its transaction, in a loop. `python -m bench.handle`.

The larger part of what a consumer's process needs, and the one that is the same each time: no threads, no fetching, no
derived events on their way. The consumer has a core for itself, the server the other.
"""

import json
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from random import Random
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table
from sqlalchemy import Engine

from bench import cpu, ended
from bench.books import BOOKS
from bench.postgres import Postgres, postgres
from bench.report import spread
from consumers import database
from consumers.contract import Consumer
from consumers.positions import Move, advance
from consumers.process import CONSUMERS
from consumers.reader import BATCH_RECORDS
from runtime.settings import load_settings
from schemas.event import Record

WARM_UP_EVENTS = 4 * BATCH_RECORDS  # statements are prepared, caches are warm


@dataclass(frozen=True)
class Measured:
    """Processor time in microseconds an event."""

    book: str
    consumer_us: float
    database_us: float


def measured(book: str, server: Postgres, rounds: int, events: int) -> Iterator[Measured]:
    """Each round has events of its own, in the same database."""
    settings = load_settings(kafka_bootstrap_servers="127.0.0.1:1", database_url=server.new_database(book))
    database.migrate(settings)
    engine = database.open_engine(settings)
    try:
        consumer, _ = CONSUMERS[book](settings, engine)
        log = list(ended.records(ended.whole_calls(WARM_UP_EVENTS + rounds * events, Random(1))))
        _handle(consumer, engine, log[:WARM_UP_EVENTS])
        for start in range(WARM_UP_EVENTS, len(log), events):
            used_s, database_s = time.process_time(), server.used_s()
            _handle(consumer, engine, log[start : start + events])
            used_s, database_s = time.process_time() - used_s, server.used_s() - database_s
            yield Measured(book, used_s / events * 1e6, database_s / events * 1e6)
    finally:
        engine.dispose()


def _handle(consumer: Consumer, engine: Engine, log: Sequence[Record]) -> None:
    for start in range(0, len(log), BATCH_RECORDS):
        batch = log[start : start + BATCH_RECORDS]
        first, last = batch[0].offset, batch[-1].offset
        with engine.begin() as tx:
            advance(tx, consumer.name, "", [Move(batch[0].topic, 0, first or None, last + 1)])
            consumer.handle(tx, batch)


def main(
    rounds: Annotated[int, typer.Option(help="How often each is measured.")] = 5,
    events: Annotated[int, typer.Option(help="In each round.")] = 10_000,
    json_: Annotated[bool, typer.Option("--json", help="Print JSON for programs.")] = False,
) -> None:
    """Measure what an event costs billing and transcripts, and PostgreSQL."""
    try:
        shared_core, consumer_core = cpu.cores()
        with postgres(shared_core) as server:
            os.sched_setaffinity(0, {consumer_core})
            found = [one for book in BOOKS for one in measured(book, server, rounds, events)]
    except RuntimeError as error:
        Console(stderr=True).print(f"error: {error}", markup=False)
        raise typer.Exit(1) from None
    if json_:
        print(json.dumps([asdict(one) for one in found], indent=2))
        return
    table = Table("book", "consumer us/event", "database us/event")
    for book in BOOKS:
        of_book = [one for one in found if one.book == book]
        consumer, server_ = spread([it.consumer_us for it in of_book]), spread([it.database_us for it in of_book])
        table.add_row(book, consumer.text(0), server_.text(0))
    Console().print(table)


if __name__ == "__main__":
    typer.run(main)
