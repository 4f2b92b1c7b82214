"""The books on PostgreSQL: ringlog's consumers against one event, one transaction. `make bench-books`.

The same events in the same topic, a fresh database for each measurement, the server durable as it comes. The consumer
has a core for itself; broker and database share the other.
"""

import asyncio
import json
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random
from typing import Annotated, Any

import psycopg
import typer
from rich.console import Console
from rich.table import Table

from bench import cpu, ended
from bench.apps import row_a_turn
from bench.postgres import Postgres, postgres
from bench.readers import ONE_BY_ONE, RINGLOG, ROW_A_TURN, Reader
from bench.report import Spread, spread
from consumers import database
from runtime import topics
from runtime.local_kafka import LocalKafka
from runtime.settings import Settings, load_settings
from schemas.topics import PARTITIONS_LOCALLY

BOOKS = ("billing", "transcripts")
WAYS = {"billing": (RINGLOG, ONE_BY_ONE), "transcripts": (RINGLOG, ONE_BY_ONE, ROW_A_TURN)}

# Before a window begins: statements are prepared, caches are warm.
WARM_UP = {RINGLOG: 3000, ONE_BY_ONE: 100, ROW_A_TURN: 100}

console = Console(stderr=True, highlight=False, soft_wrap=True)


@dataclass(frozen=True)
class Measured:
    """Processor time in microseconds an event. `waiting`: derived events that had not left yet, which the other way
    has none of. `bystanders`: the cores that others kept busy."""

    round: int
    book: str
    way: str
    events: int
    per_second: float
    consumer_us: float
    database_us: float
    waiting: int
    bystanders: float

    @property
    def us(self) -> float:
        return self.consumer_us + self.database_us


@dataclass(frozen=True)
class Plan:
    rounds: int
    seconds: float
    events: int
    partitions: int
    patience_s: float


class Bench:
    def __init__(self, plan: Plan, folder: Path, kafka: LocalKafka, server: Postgres, core: int) -> None:
        self._plan = plan
        self._folder = folder
        self._kafka = kafka
        self._server = server
        self._core = core

    def measurements(self) -> Iterator[Measured]:
        """Who goes first changes."""
        settings = self._settings("unused")
        asyncio.run(topics.apply(settings))
        size = asyncio.run(ended.put(settings, ended.whole_calls(self._plan.events, Random(1))))
        console.print(f"{self._plan.events} events of {size / self._plan.events:.0f} bytes are in the topic")
        for round_ in range(self._plan.rounds):
            for place, book in enumerate(BOOKS):
                ways = WAYS[book]
                first = (round_ + place) % len(ways)
                for way in ways[first:] + ways[:first]:
                    yield self._measured(round_, book, way)

    def _measured(self, round_: int, book: str, way: str) -> Measured:
        name = f"{book}_{way}_{round_}".replace(" ", "_")
        with self._database(name) as url:
            database.migrate(self._settings(url))
            if way == ROW_A_TURN:
                row_a_turn.make_tables(url)
            cpu.wait_for_quiet([self._kafka.pid], self._plan.patience_s)
            reader = Reader(way, book, self._environment(name), url, self._folder / f"{name}.log")
            try:
                reader.start(self._core)
                before, after = reader.window(self._server, self._kafka.pid, WARM_UP[way], self._plan.seconds)
            finally:
                reader.stop()
            waiting = self._waiting(url)
        events, seconds = after.events - before.events, after.at - before.at
        others_s = (after.machine_s - before.machine_s) - (after.ours_s - before.ours_s)
        return Measured(
            round=round_,
            book=book,
            way=way,
            events=events,
            per_second=events / seconds,
            consumer_us=(after.consumer_s - before.consumer_s) / events * 1e6,
            database_us=(after.database_s - before.database_s) / events * 1e6,
            waiting=waiting,
            bystanders=max(0.0, others_s / seconds),
        )

    @contextmanager
    def _database(self, name: str) -> Iterator[str]:
        try:
            yield self._server.new_database(name)
        finally:
            with suppress(psycopg.Error):
                self._server.drop(name)

    def _waiting(self, url: str) -> int:
        with psycopg.connect(url) as connection:
            row = connection.execute("SELECT coalesce(sum(events), 0) FROM outbox").fetchone()
        return int(row[0]) if row else 0

    def _settings(self, database_url: str) -> Settings:
        return load_settings(
            kafka_bootstrap_servers=self._kafka.bootstrap_servers,
            topic_partitions=self._plan.partitions,
            database_url=database_url,
        )

    def _environment(self, name: str) -> dict[str, str]:
        return {
            "RINGLOG_KAFKA_BOOTSTRAP_SERVERS": self._kafka.bootstrap_servers,
            "RINGLOG_DATA_DIR": str(self._folder / "data"),
            "BENCH_TOPIC": "calls.ended",
            "BENCH_GROUP": name,
        }


class Report:
    def __init__(self, found: list[Measured]) -> None:
        self._found = found

    def of(self, book: str, way: str, value: Callable[[Measured], float]) -> Spread:
        return spread([value(one) for one in self._found if (one.book, one.way) == (book, way)])

    def ratio(self, book: str, over: str, under: str, value: Callable[[Measured], float]) -> Spread:
        """Of the two measurements of each round."""
        of = {(one.round, one.way): value(one) for one in self._found if one.book == book}
        return spread([of[round_, over] / of[round_, under] for round_ in sorted({round_ for round_, _ in of})])

    def table(self) -> Table:
        columns = ("events/s", "consumer us/event", "database us/event", "events/s and core of the consumer", "waiting")
        table = Table("book", "way", *columns)
        for book in BOOKS:
            for way in WAYS[book]:
                table.add_row(
                    book,
                    way,
                    self.of(book, way, lambda one: one.per_second).text(0),
                    self.of(book, way, lambda one: one.consumer_us).text(0),
                    self.of(book, way, lambda one: one.database_us).text(0),
                    self.of(book, way, lambda one: 1e6 / one.consumer_us).text(0),
                    f"{self.of(book, way, lambda one: one.waiting).median:.0f}",
                )
            table.add_section()
        return table

    def ratios(self) -> dict[str, dict[str, Spread]]:
        """By what is compared, of each book that it was measured of."""
        found: dict[str, dict[str, Spread]] = {}
        for other in (ONE_BY_ONE, ROW_A_TURN):
            books = [book for book in BOOKS if other in WAYS[book]]
            rates: dict[str, Spread] = {}
            used: dict[str, Spread] = {}
            ours: dict[str, Spread] = {}
            for book in books:
                rates[book] = self.ratio(book, RINGLOG, other, lambda one: one.per_second)
                used[book] = self.ratio(book, other, RINGLOG, lambda one: one.us)
                ours[book] = self.ratio(book, other, RINGLOG, lambda one: one.consumer_us)
            found[f"events/s: ringlog / {other}"] = rates
            found[f"CPU of consumer and database: {other} / ringlog"] = used
            found[f"CPU of the consumer: {other} / ringlog"] = ours
        return found

    def ratio_table(self) -> Table:
        table = Table("ratio", *BOOKS)
        for name, of_books in self.ratios().items():
            table.add_row(name, *(of_books[book].text(1) if book in of_books else "" for book in BOOKS))
        return table

    def as_json(self) -> dict[str, Any]:
        ratios = {name: {book: asdict(it) for book, it in of.items()} for name, of in self.ratios().items()}
        return {"ratios": ratios, "measurements": [asdict(one) for one in self._found]}


def run(plan: Plan) -> list[Measured]:
    """Raises `RuntimeError` with a sentence when the bench can't be run here."""
    shared_core, consumer_core = cpu.cores()
    found = []
    with tempfile.TemporaryDirectory(prefix="ringlog-bench-") as name, postgres(shared_core) as server:
        with cpu.on_core(shared_core):
            kafka = LocalKafka(Path(name) / "kafka")
            kafka.start()
        try:
            for one in Bench(plan, Path(name), kafka, server, consumer_core).measurements():
                found.append(one)
                console.print(
                    f"round {one.round + 1} {one.book:11} {one.way:10} {one.per_second:7.0f}/s,"
                    f" consumer {one.consumer_us:6.0f} us, database {one.database_us:6.0f} us,"
                    f" {one.waiting} waiting, others {one.bystanders:.2f} cores"
                )
        finally:
            kafka.stop(0)
    return found


def main(
    rounds: Annotated[int, typer.Option(help="How often each is measured.")] = 5,
    seconds: Annotated[float, typer.Option(help="Of each measurement.")] = 5.0,
    events: Annotated[int, typer.Option(help="In the topic: more than the fastest reads in a measurement.")] = 60_000,
    partitions: Annotated[int, typer.Option(help="Of the topic.")] = PARTITIONS_LOCALLY,
    patience: Annotated[float, typer.Option(help="Seconds to wait for a quiet machine, before each.")] = 10.0,
    json_: Annotated[bool, typer.Option("--json", help="Print JSON for programs.")] = False,
) -> None:
    """Measure billing and transcripts on PostgreSQL beside a consumer that commits each event by itself."""
    try:
        report = Report(run(Plan(rounds, seconds, events, partitions, patience)))
    except RuntimeError as error:
        console.print(f"error: {error}", markup=False)
        raise typer.Exit(1) from None
    if json_:
        print(json.dumps(report.as_json(), indent=2))
    else:
        Console().print(report.table(), report.ratio_table())


if __name__ == "__main__":
    typer.run(main)
