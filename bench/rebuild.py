"""What a caller notices of a rebuild of the state beside them, and what it needs. `make bench-rebuild`.

The service, the builder and the broker run all the time, on all cores, as the system places them; prefetches come at a
fixed rate. In each round they are measured once alone, and once while `ringlog state rebuild` runs, in changing order.
"""

import asyncio
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from bench import calls, cpu, ended, servers
from bench.paced import pace
from bench.report import Spread, spread
from bench.servers import Server, ServerError
from runtime import topics
from runtime.local_kafka import LocalKafka, dies_with_us
from runtime.settings import Settings, load_settings
from schemas.topics import PARTITIONS_LOCALLY
from state.generations import Generations

ALONE = "alone"
BESIDE = "beside a rebuild"

CAUGHT_UP_WITHIN_S = 600.0
WARM_UP_S = 1.0
_MIB = 1024 * 1024
_KEY = "a-secret-of-the-bench"
_IDENTITY_KEY = "an-identity-key-of-the-bench"

console = Console(stderr=True, highlight=False, soft_wrap=True)


@dataclass(frozen=True)
class Measured:
    """`bystanders`: cores that others kept busy, who are neither ours nor the load; `rebuild`: those of the rebuild."""

    round: int
    when: str
    requests: int
    failed: int
    p50_ms: float
    p99_ms: float
    rebuild: float
    bystanders: float


@dataclass(frozen=True)
class Rebuilt:
    """One rebuild from end to end, with nothing beside it; `resident` is the most it had to itself."""

    events: int
    seconds: float
    cpu_us: float
    resident_mib: float


class Rebuilding:
    """Rebuilds, one after the other, from the making until `stop`, which kills the last one."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = environment
        self._over = False
        self.process = begin(environment)
        self._thread = threading.Thread(target=self._again)
        self._thread.start()

    def cpu_s(self) -> float:
        return cpu.used_s(self.process.pid)

    def stop(self) -> None:
        self._over = True
        self.process.kill()
        self._thread.join()

    def _again(self) -> None:
        while not self._over:
            self.process.wait()
            if not self._over:
                self.process = begin(self._environment)


def begin(environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "cli.main", "state", "rebuild", "--json"],
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        preexec_fn=dies_with_us(),  # noqa: PLW1509 - it neither imports nor locks in the child
    )


@dataclass(frozen=True)
class Plan:
    events: int
    rounds: int
    seconds: float
    per_second: float
    patience_s: float


@dataclass(frozen=True)
class Bench:
    plan: Plan
    settings: Settings
    environment: dict[str, str]
    service: Server
    builder: Server
    kafka_pid: int
    requests: list[bytes]

    def measured(self, round_: int, when: str) -> Measured:
        dice = Random(round_)
        rebuilding = Rebuilding(self.environment) if when == BESIDE else None
        try:
            if rebuilding:
                self._wait_until_it_reads(rebuilding)
            pace(self.service.port, self.requests, self.plan.per_second, WARM_UP_S, dice)
            ours = [self.service.pid, self.builder.pid, self.kafka_pid]
            if not rebuilding:
                cpu.wait_for_quiet(ours, self.plan.patience_s)
            bystanders, before = cpu.Bystanders([*ours, "self"]), rebuilding.cpu_s() if rebuilding else 0.0
            started = time.monotonic()
            load = pace(self.service.port, self.requests, self.plan.per_second, self.plan.seconds, dice)
            seconds = time.monotonic() - started
            rebuild = (rebuilding.cpu_s() - before) / seconds if rebuilding else 0.0
            return Measured(
                round=round_,
                when=when,
                requests=load.requests,
                failed=load.failed,
                p50_ms=load.percentile_ms(0.5),
                p99_ms=load.percentile_ms(0.99),
                rebuild=rebuild,
                bystanders=max(0.0, bystanders.cores() - rebuild),
            )
        finally:
            if rebuilding:
                rebuilding.stop()

    def rebuilt(self) -> Rebuilt:
        """From the beginning: what a killed one has left is not of use for it."""
        generations = Generations(self.settings.state_dir)
        if (left := generations.unfinished()) is not None:
            generations.discard(left)
        process, resident, used_s = begin(self.environment), 0, 0.0
        while process.poll() is None:
            with suppress(OSError, IndexError):  # it ends just now
                resident, used_s = max(resident, cpu.resident_bytes(process.pid)), cpu.used_s(process.pid)
            time.sleep(0.05)
        assert process.stdout is not None
        said: dict[str, Any] = json.loads(process.stdout.read())
        return Rebuilt(said["events"], said["seconds"], used_s / said["events"] * 1e6, resident / _MIB)

    def _wait_until_it_reads(self, rebuilding: Rebuilding) -> None:
        generations = Generations(self.settings.state_dir)
        while generations.unfinished() is None and rebuilding.process.poll() is None:
            time.sleep(0.02)


@contextmanager
def bench(plan: Plan) -> Iterator[Bench]:
    """Raises `RuntimeError`."""
    with tempfile.TemporaryDirectory(prefix="ringlog-bench-") as name:
        folder = Path(name)
        with LocalKafka(folder / "kafka") as kafka:
            environment = {
                "RINGLOG_KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap_servers,
                "RINGLOG_DATA_DIR": name,
                "RINGLOG_WEBHOOK_KEYS": f"bench:{_KEY}",
                "RINGLOG_IDENTITY_KEY": _IDENTITY_KEY,
                "RINGLOG_LOG_FORMAT": "json",
            }
            settings = load_settings(
                kafka_bootstrap_servers=kafka.bootstrap_servers,
                data_dir=folder,
                identity_key=_IDENTITY_KEY,
                topic_prefix="",
                topic_partitions=PARTITIONS_LOCALLY,
            )
            asyncio.run(topics.apply(settings))
            small = ended.small_calls(plan.events, Random(1))
            size = asyncio.run(ended.put(settings, small, settings.identity().id_of_number))
            console.print(f"{plan.events} events of {size / plan.events:.0f} bytes are in the topic")
            builder = _builder(environment, folder)
            service = servers.ringlog(environment, folder)
            dice = Random(2)
            requests = [calls.prefetch_request(caller, _KEY, dice) for caller in calls.callers(5000, dice)]
            try:
                builder.start(None)
                service.start(None)
                _wait_until_caught_up(service, requests[0])
                yield Bench(plan, settings, environment, service, builder, kafka.pid, requests)
            finally:
                service.stop()
                builder.stop()


def _builder(environment: Mapping[str, str], folder: Path) -> Server:
    port = servers.free_port()
    listen = {"RINGLOG_HOST": "127.0.0.1", "RINGLOG_OPS_PORT": str(port)}
    command = [sys.executable, "-m", "cli.main", "consume", "profiles"]
    return Server("builder", command, {**environment, **listen}, port, folder / "builder.log")


def _wait_until_caught_up(service: Server, request: bytes) -> None:
    """Until the caller is known. Raises `ServerError`."""
    deadline = time.monotonic() + CAUGHT_UP_WITHIN_S
    while b"called" not in service.answer(request)[1]:
        if time.monotonic() > deadline:
            raise ServerError(f"nobody is known after {CAUGHT_UP_WITHIN_S:g} s")
        time.sleep(0.5)


def table(found: list[Measured]) -> Table:
    grid = Table("prefetch", "p50 ms", "p99 ms", "cores of the rebuild", "failed")
    for when in (ALONE, BESIDE):
        these = [one for one in found if one.when == when]
        grid.add_row(
            when,
            spread([one.p50_ms for one in these]).text(),
            spread([one.p99_ms for one in these]).text(),
            spread([one.rebuild for one in these]).text(),
            str(sum(one.failed for one in these)),
        )
    return grid


def ratio(found: list[Measured]) -> Spread:
    """Of the p99 beside a rebuild to that alone, in the same round."""
    p99 = {(one.round, one.when): one.p99_ms for one in found}
    return spread([p99[round_, BESIDE] / p99[round_, ALONE] for round_ in sorted({round_ for round_, _ in p99})])


def run(plan: Plan) -> tuple[list[Measured], Rebuilt]:
    """Raises `RuntimeError` with a sentence when the bench can't be run here."""
    found: list[Measured] = []
    with bench(plan) as bench_:
        for round_ in range(plan.rounds):
            for when in (ALONE, BESIDE) if round_ % 2 == 0 else (BESIDE, ALONE):
                one = bench_.measured(round_, when)
                found.append(one)
                console.print(
                    f"round {round_ + 1}/{plan.rounds} {when:17} p50 {one.p50_ms:.2f} ms, p99 {one.p99_ms:.2f} ms,"
                    f" rebuild {one.rebuild:.2f} cores, others {one.bystanders:.2f}, {one.failed} failed"
                )
        return found, bench_.rebuilt()


def main(
    events: Annotated[int, typer.Option(help="In the topic.")] = 500_000,
    rounds: Annotated[int, typer.Option(help="How often each is measured.")] = 7,
    seconds: Annotated[float, typer.Option(help="Of each measurement.")] = 10.0,
    per_second: Annotated[float, typer.Option(help="Prefetches.")] = 200.0,
    patience: Annotated[float, typer.Option(help="Seconds to wait for a quiet machine.")] = 20.0,
    json_: Annotated[bool, typer.Option("--json", help="Print JSON for programs.")] = False,
) -> None:
    """Measure prefetches alone, and beside a rebuild of the state."""
    try:
        found, rebuilt = run(Plan(events, rounds, seconds, per_second, patience))
    except RuntimeError as error:
        console.print(f"error: {error}", markup=False)
        raise typer.Exit(1) from None
    slower = ratio(found)
    if json_:
        report = {"p99": asdict(slower), "rebuilt": asdict(rebuilt), "measurements": [asdict(one) for one in found]}
        print(json.dumps(report, indent=2))
        return
    out = Console(highlight=False)
    out.print(table(found))
    out.print(f"p99 beside a rebuild / alone: {slower.text()}")
    out.print(
        f"A rebuild of {rebuilt.events:,} events: {rebuilt.seconds:.1f} s, {rebuilt.cpu_us:.1f} us of processor time an"
        f" event, {rebuilt.resident_mib:.0f} MiB to itself at the most."
    )


if __name__ == "__main__":
    typer.run(main)
