"""How fast the profiles are rebuilt from the topics. `make bench-replay`.

Against a loop that reads the same events and throws them away, and against the same state built with Quix Streams. The
reader has a core for itself; the broker has the other.
"""

import asyncio
import json
import logging
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from bench import cpu, ended
from bench.report import RINGLOG, spread
from runtime import topics
from runtime.local_kafka import LocalKafka
from runtime.settings import load_settings
from schemas.topics import PARTITIONS_LOCALLY

GETMANY = "getmany"
QUIX = "Quix Streams"
QUIX_VERSION = "3.28.1"  # in an environment that uv makes for it, and keeps

BENCH = Path(__file__).parent

WANTED = {GETMANY: 0.6, QUIX: 8.0}

console = Console(stderr=True, highlight=False, soft_wrap=True)


@dataclass(frozen=True)
class Measured:
    """`cpu_us` is processor time of the reader an event, and of ringlog also in each quarter of the events;
    `bystanders` the cores that others kept busy."""

    round: int
    way: str
    events: int
    per_second: float
    cpu_us: float
    bystanders: float
    peak_bytes: int | None
    us_by_quarter: list[float] | None


@dataclass(frozen=True)
class Plan:
    rounds: int
    events: int
    quix_events: int
    patience_s: float


class Bench:
    def __init__(self, plan: Plan, folder: Path, kafka: LocalKafka, core: int) -> None:
        self._plan = plan
        self._folder = folder
        self._kafka = kafka
        self._core = core
        self._ways = (RINGLOG, GETMANY, QUIX) if plan.quix_events else (RINGLOG, GETMANY)

    def measurements(self) -> Iterator[Measured]:
        """Who goes first changes."""
        settings = load_settings(
            kafka_bootstrap_servers=self._kafka.bootstrap_servers, topic_partitions=PARTITIONS_LOCALLY
        )
        asyncio.run(topics.apply(settings))
        size = asyncio.run(ended.put(settings, ended.short_calls(self._plan.events, Random(1))))
        console.print(f"{self._plan.events} events of {size / self._plan.events:.0f} bytes are in the topic")
        for round_ in range(self._plan.rounds):
            first = round_ % len(self._ways)
            for way in self._ways[first:] + self._ways[:first]:
                yield self._measured(round_, way)

    def _measured(self, round_: int, way: str) -> Measured:
        cpu.wait_for_quiet([self._kafka.pid], self._plan.patience_s)
        bystanders = cpu.Bystanders([self._kafka.pid])
        before = cpu.used_s("self", ended=True)
        found = self._run(way)
        ours_s = cpu.used_s("self", ended=True) - before
        return Measured(
            round=round_,
            way=way,
            events=found["events"],
            per_second=found["events"] / found["seconds"],
            cpu_us=found["cpu_s"] / found["events"] * 1e6,
            bystanders=bystanders.cores_without(ours_s),
            peak_bytes=found.get("peak_bytes"),
            us_by_quarter=found.get("us_by_quarter"),
        )

    def _run(self, way: str) -> dict[str, Any]:
        data = self._folder / "data"
        shutil.rmtree(data, ignore_errors=True)
        environment = {
            **os.environ,
            "RINGLOG_KAFKA_BOOTSTRAP_SERVERS": self._kafka.bootstrap_servers,
            "RINGLOG_TOPIC_PARTITIONS": str(PARTITIONS_LOCALLY),
            "RINGLOG_DATA_DIR": str(data),
        }
        with cpu.on_core(self._core):
            done = subprocess.run(
                self._command(way), env=environment, capture_output=True, text=True, check=False, timeout=1800
            )
        if done.returncode:
            raise RuntimeError(f"{way} failed: {done.stderr[-2000:]}")
        last: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        return last

    def _command(self, way: str) -> Sequence[str]:
        if way == QUIX:
            uv = [
                sys.executable,
                "-m",
                "uv",
                "run",
                "--quiet",
                "--no-project",
                "--isolated",
                "--python",
                sys.executable,
            ]
            app = str(BENCH / "apps" / "quix_profiles.py")
            return [*uv, "--with", f"quixstreams=={QUIX_VERSION}", "python", app, str(self._plan.quix_events)]
        app = {RINGLOG: "rebuilding", GETMANY: "discarding"}[way]
        return [sys.executable, "-m", f"bench.apps.{app}", str(self._plan.events)]


def run(plan: Plan) -> list[Measured]:
    """Raises `RuntimeError` with a sentence when the bench can't be run here."""
    broker_core, reader_core = cpu.cores()
    with tempfile.TemporaryDirectory(prefix="ringlog-bench-") as name:
        with cpu.on_core(broker_core):
            kafka = LocalKafka(Path(name) / "kafka")
            kafka.start()
        try:
            found = []
            for one in Bench(plan, Path(name), kafka, reader_core).measurements():
                console.print(
                    f"round {one.round}: {one.way:13} {one.per_second:10,.0f} events/s {one.cpu_us:7.2f} us an event"
                    f" (others: {one.bystanders:.2f} cores)"
                )
                found.append(one)
            return found
        finally:
            kafka.stop(0)


def ratios(found: Sequence[Measured], of: str) -> tuple[list[float], list[float]]:
    """Ringlog's rate over the other's in the same round, and the other's processor time over ringlog's."""
    by = {(one.round, one.way): one for one in found}
    rounds = sorted({one.round for one in found if one.way == of})
    pairs = [(by[round_, RINGLOG], by[round_, of]) for round_ in rounds]
    return [our.per_second / other.per_second for our, other in pairs], [o.cpu_us / our.cpu_us for our, o in pairs]


def main(
    rounds: Annotated[int, typer.Option(help="Each measures each way once.")] = 5,
    events: Annotated[int, typer.Option(help="In the topic.")] = 500_000,
    quix_events: Annotated[int, typer.Option(help="That Quix Streams reads of them; 0: without it.")] = 60_000,
    patience: Annotated[float, typer.Option(help="Seconds to wait for a quiet machine.")] = 10.0,
    json_: Annotated[bool, typer.Option("--json", help="Print JSON for programs.")] = False,
) -> None:
    """Measure a rebuild of the profiles."""
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # that topics have no leader yet, in the first moments
    try:
        found = run(Plan(rounds, events, quix_events, patience))
    except RuntimeError as error:
        console.print(f"error: {error}", markup=False)
        raise typer.Exit(1) from None
    if json_:
        print(json.dumps([asdict(one) for one in found], indent=2))
        return
    ways = list(dict.fromkeys(one.way for one in found))
    table = Table("", "events/s", "CPU us an event", "peak MiB")
    for way in ways:
        of = [one for one in found if one.way == way]
        peak = max((one.peak_bytes or 0) for one in of) / 1024**2
        rate, used = spread([one.per_second for one in of]), spread([one.cpu_us for one in of])
        table.add_row(way, rate.text(0), used.text(1), f"{peak:.0f}" if peak else "-")
    Console().print(table)
    for number, quarter in enumerate(
        zip(*(one.us_by_quarter or [] for one in found if one.way == RINGLOG), strict=True)
    ):
        Console().print(f"CPU of ringlog in quarter {number + 1}: {spread(quarter).text(1)} us an event")
    for way in ways:
        if way != RINGLOG:
            rate_ratios, cpu_ratios = ratios(found, way)
            wanted = f"wanted: at least {WANTED[way]:g}"
            Console().print(f"rate of ringlog / {way}: {spread(rate_ratios).text()} ({wanted})")
            Console().print(f"CPU of {way} / ringlog: {spread(cpu_ratios).text()}")


if __name__ == "__main__":
    typer.run(main)
