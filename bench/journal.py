"""How an event becomes durable: the journal's group commit against one `send_and_wait` a request. `make bench-journal`.

Four servers with the same endpoint (`bench.apps.publishing`), on one core that is theirs, with one broker beside the
load on the other; then one more server and a broker of its own, which is paused.
`send_and_wait` is told the partition, `send_and_wait by key` finds it as aiokafka does.
"""

import asyncio
import json
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random
from typing import Annotated, Any

import typer
from rich.console import Console

from bench import calls, cpu, servers
from bench.load import drive
from bench.measure import Effort, measure
from bench.outage import AWAY, UP, Drain, Outage
from bench.profile import Profile
from bench.report import BARE, Measurement, Ratio, Report, spread
from bench.servers import Server, ServerError
from runtime import topics
from runtime.local_kafka import LocalKafka
from runtime.settings import load_settings
from schemas.topics import PARTITIONS_LOCALLY

GROUP = "group commit"
SINGLE = "send_and_wait"
BY_KEY = "send_and_wait by key"
WAYS = (BARE, GROUP, SINGLE, BY_KEY)

CONCURRENCY = (32, 64, 128, 256, 512)
PROFILED_CONNECTIONS = 128
_PROFILE_S = 15.0  # some thousand samples
OUTAGE_CONNECTIONS = 64
LIVE_CONNECTIONS = (0, 8, 64)  # beside a drain: none, some, as many as fill the server

RATIOS = (
    Ratio("requests/s: group commit / send_and_wait", GROUP, SINGLE, lambda one: one.per_second),
    Ratio("p99: group commit / send_and_wait", GROUP, SINGLE, lambda one: one.p99_ms),
    Ratio("CPU: group commit / bare", GROUP, BARE),
    Ratio("CPU: send_and_wait / bare", SINGLE, BARE),
    Ratio("CPU: group commit / send_and_wait, of what each adds to bare", GROUP, SINGLE, added=True),
    Ratio("CPU: group commit / send_and_wait by key, of what each adds to bare", GROUP, BY_KEY, added=True),
)

console = Console(stderr=True, highlight=False, soft_wrap=True)


@dataclass(frozen=True)
class Plan:
    rounds: int
    seconds: float
    patience_s: float
    partitions: int
    callers: int


@dataclass(frozen=True)
class Found:
    measurements: list[Measurement]
    outage: list[Measurement]
    drains: list[Drain]
    profile: Profile | None

    def as_json(self) -> dict[str, Any]:
        return {
            **Report(self.measurements, "connections", RATIOS).as_json(),
            "outage": [asdict(one) for one in self.outage],
            "drains": [asdict(one) for one in self.drains],
            "profile": self.profile.as_json() if self.profile else None,
        }


class Bench:
    def __init__(self, folder: Path, plan: Plan) -> None:
        self._folder = folder
        self._plan = plan
        self._load_core, self._server_core = cpu.cores()
        dice = Random(1)
        self._requests = [calls.end_of_call_request(caller, "none") for caller in calls.callers(plan.callers, dice)]

    def publishing(self, concurrency: Sequence[int]) -> Iterator[Measurement]:
        """All, at each concurrency, in each round; which goes first changes."""
        with self._kafka("kafka") as kafka, ExitStack() as stack:
            running = [stack.enter_context(self._server(way, kafka)) for way in WAYS]
            for round_ in range(self._plan.rounds):
                for place, connections in enumerate(concurrency):
                    first = (round_ + place) % len(running)
                    for server in running[first:] + running[:first]:
                        effort = Effort(connections, self._plan.seconds, self._plan.patience_s)
                        yield measure(str(connections), server, self._requests, kafka.pid, round_, effort)

    def profile(self) -> Profile:
        """Of the journal under load."""
        with self._kafka("kafka") as kafka, self._server(GROUP, kafka) as server:
            dice = Random(1)
            drive(server.port, self._requests, PROFILED_CONNECTIONS, 2.0, dice)
            server.answer(b"GET /profile/start HTTP/1.1\r\nhost: bench\r\n\r\n")
            load = drive(server.port, self._requests, PROFILED_CONNECTIONS, max(_PROFILE_S, self._plan.seconds), dice)
            _, stacks = server.answer(b"GET /profile HTTP/1.1\r\nhost: bench\r\n\r\n")
            return Profile(load.requests, json.loads(stacks))

    def outage(self) -> Iterator[Measurement | Drain]:
        effort = Effort(OUTAGE_CONNECTIONS, self._plan.seconds, self._plan.patience_s)
        with self._kafka("kafka-of-the-outage") as kafka, self._server(GROUP, kafka) as server:
            outage = Outage(server, kafka, self._requests, effort)
            for round_ in range(self._plan.rounds):
                yield from outage.spooling(round_)
                for connections in LIVE_CONNECTIONS:
                    yield outage.drain(round_, connections)

    @contextmanager
    def _kafka(self, name: str) -> Iterator[LocalKafka]:
        with cpu.on_core(self._load_core), LocalKafka(self._folder / name) as kafka:
            for way in WAYS[1:]:
                settings = load_settings(
                    kafka_bootstrap_servers=kafka.bootstrap_servers,
                    topic_prefix=_prefix(way),
                    topic_partitions=self._plan.partitions,
                )
                asyncio.run(topics.apply(settings))
            yield kafka

    @contextmanager
    def _server(self, way: str, kafka: LocalKafka) -> Iterator[Server]:
        """Raises `ServerError`."""
        environment = {
            "BENCH_WAY": way,
            "RINGLOG_KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap_servers,
            "RINGLOG_TOPIC_PREFIX": _prefix(way),
            "RINGLOG_DATA_DIR": str(self._folder / f"data-{way.replace(' ', '-')}-{kafka.pid}"),
        }
        server = servers.uvicorn(way, "bench.apps.publishing:app", environment, self._folder)
        try:
            server.start(self._server_core)
            deadline = time.monotonic() + servers.START_DEADLINE_S
            while b'"connected":true' not in server.answer(b"GET / HTTP/1.1\r\nhost: bench\r\n\r\n")[1] and way != BARE:
                if time.monotonic() > deadline:
                    raise ServerError(f"{way} did not connect to Kafka")
                time.sleep(0.1)
            yield server
        finally:
            server.stop()


def _prefix(way: str) -> str:
    return "" if way == BARE else f"{way.replace(' ', '-')}."


def run(plan: Plan, concurrency: Sequence[int]) -> Found:
    """Raises `RuntimeError` with a sentence when the bench can't be run here."""
    measurements, outage, drains = [], [], []
    with tempfile.TemporaryDirectory(prefix="ringlog-bench-") as name:
        bench = Bench(Path(name), plan)
        for one in bench.publishing(concurrency):
            measurements.append(one)
            _say(one)
        for found in bench.outage():
            if isinstance(found, Measurement):
                outage.append(found)
                _say(found)
            else:
                drains.append(found)
                console.print(
                    f"round {found.round + 1} {found.events} spooled events drained in {found.seconds:.1f} s"
                    f" beside {found.live_per_second:.0f}/s of {found.live_connections} connections,"
                    f" p50 {found.live_p50_ms:.1f} p99 {found.live_p99_ms:.1f} ms, {found.failed} failed"
                )
        profile = bench.profile()
    measurements.sort(key=lambda one: (int(one.case), WAYS.index(one.server)))
    return Found(measurements, outage, drains, profile)


def _say(one: Measurement) -> None:
    console.print(
        f"round {one.round + 1} {one.case:>10} {one.server:20} {one.per_second:6.0f}/s {one.cpu_us:6.1f} us"
        f" p50 {one.p50_ms:5.1f} p99 {one.p99_ms:6.1f} ms, {one.core_share:.0%} of its core,"
        f" broker {one.broker_us:.0f} us, others {one.bystanders:.2f} cores, {one.failed} failed"
    )


def _show(found: Found) -> None:
    out = Console()
    report = Report(found.measurements, "connections", RATIOS)
    out.print(report.table(), report.ratio_table())
    away = Report(found.outage, "Kafka", ())
    out.print(away.table())
    rates = {case: [one.per_second for one in found.outage if one.case == case] for case in (UP, AWAY)}
    print("spooling / Kafka up, requests/s:", spread([a / u for u, a in zip(*rates.values(), strict=True)]).text())
    for connections in LIVE_CONNECTIONS:
        some = [one for one in found.drains if one.live_connections == connections]
        print(
            f"drain beside {connections} connections: {spread([one.per_second for one in some]).text(0)} events/s;"
            f" live {spread([one.live_per_second for one in some]).text(0)}/s,"
            f" p50 {spread([one.live_p50_ms for one in some]).text(1)},"
            f" p99 {spread([one.live_p99_ms for one in some]).text(1)} ms"
        )
    if found.profile is not None:
        out.print(found.profile.table(), found.profile.functions())


def main(
    rounds: Annotated[int, typer.Option(help="How often each is measured.")] = 5,
    seconds: Annotated[float, typer.Option(help="Of each measurement.")] = 4.0,
    connections: Annotated[list[int] | None, typer.Option(help="Requests under way at once; repeat it.")] = None,
    partitions: Annotated[int, typer.Option(help="Of the topic.")] = PARTITIONS_LOCALLY,
    callers: Annotated[int, typer.Option(help="Whose calls end.")] = 5_000,
    patience: Annotated[float, typer.Option(help="Seconds to wait for a quiet machine, before each.")] = 20.0,
    json_: Annotated[bool, typer.Option("--json", help="Print JSON for programs.")] = False,
) -> None:
    """Measure group commit, `send_and_wait` and the bare endpoint; then the spool, filled and drained."""
    try:
        found = run(Plan(rounds, seconds, patience, partitions, callers), connections or CONCURRENCY)
    except RuntimeError as error:
        console.print(f"error: {error}", markup=False)
        raise typer.Exit(1) from None
    if json_:
        print(json.dumps(found.as_json(), indent=2))
    else:
        _show(found)


if __name__ == "__main__":
    typer.run(main)
