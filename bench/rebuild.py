"""What a caller notices of a rebuild of the state beside them, and what it needs. `make bench-rebuild`.

The service, the builder and the broker run all the time, on all cores, as the system places them; prefetches come at a
fixed rate. `ringlog state rebuild` runs and is stopped in turns of a second and a half, in changing order: what others
do on the machine is then the same for both, in the sum of many turns.
"""

import asyncio
import json
import statistics
import sys
import tempfile
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
from bench.load import Load
from bench.paced import pace
from bench.rebuilding import Rebuilding, begin
from bench.report import Spread, spread
from bench.servers import Server, ServerError
from runtime import topics
from runtime.local_kafka import LocalKafka
from runtime.settings import Settings, load_settings
from schemas.topics import PARTITIONS_LOCALLY
from state.generations import Generations

ALONE = "alone"
BESIDE = "beside a rebuild"

CAUGHT_UP_WITHIN_S = 600.0
TURN_S = 1.5
SETTLED_AFTER_S = 0.2  # what was under way when a rebuild was stopped
_MIB = 1024 * 1024
_KEY = "a-secret-of-the-bench"
_IDENTITY_KEY = "an-identity-key-of-the-bench"

console = Console(stderr=True, highlight=False, soft_wrap=True)


@dataclass(frozen=True)
class Measured:
    """All turns of a block together. `rebuild`: cores that the rebuild used; `others`: those of whoever is not ours."""

    block: int
    when: str
    requests: int
    failed: int
    p50_ms: float
    p99_ms: float
    rebuild: float
    others: float


@dataclass(frozen=True)
class Rebuilt:
    """One rebuild from end to end, with nothing beside it; `resident` is the most it had to itself."""

    events: int
    seconds: float
    cpu_us: float
    resident_mib: float


@dataclass(frozen=True)
class Plan:
    events: int
    blocks: int
    turns: int
    per_second: float


@dataclass(frozen=True)
class Bench:
    plan: Plan
    settings: Settings
    environment: dict[str, str]
    service: Server
    builder: Server
    kafka_pid: int
    requests: list[bytes]

    def block(self, number: int) -> list[Measured]:
        loads: dict[str, list[Load]] = {ALONE: [], BESIDE: []}
        cores: dict[str, list[tuple[float, float]]] = {ALONE: [], BESIDE: []}
        rebuilding = Rebuilding(self.environment, self.settings.state_dir)
        try:
            for turn in range(self.plan.turns):
                for when in (ALONE, BESIDE) if turn % 2 == 0 else (BESIDE, ALONE):
                    rebuilding.go(when == BESIDE)
                    load, used = self._turn(rebuilding.pid, Random(number * 1000 + turn))
                    loads[when].append(load)
                    cores[when].append(used)
        finally:
            rebuilding.stop()
        return [_together(number, when, loads[when], cores[when]) for when in loads]

    def _turn(self, rebuild_pid: int, dice: Random) -> tuple[Load, tuple[float, float]]:
        """With the cores that the rebuild used, and those that others did. Raises `RuntimeError` when it has ended."""
        try:
            return self._paced(rebuild_pid, dice)
        except FileNotFoundError:
            raise RuntimeError("the rebuild ended within the block: fewer --turns, or more --events") from None

    def _paced(self, rebuild_pid: int, dice: Random) -> tuple[Load, tuple[float, float]]:
        time.sleep(SETTLED_AFTER_S)
        bystanders = cpu.Bystanders([self.service.pid, self.builder.pid, self.kafka_pid, "self", rebuild_pid])
        before, started = cpu.used_s(rebuild_pid), time.monotonic()
        load = pace(self.service.port, self.requests, self.plan.per_second, TURN_S, dice)
        used = (cpu.used_s(rebuild_pid) - before) / (time.monotonic() - started)
        return load, (used, bystanders.cores())

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


def _together(block: int, when: str, loads: list[Load], cores: list[tuple[float, float]]) -> Measured:
    latencies = sorted(latency for load in loads for latency in load.latencies)
    all_ = Load(sum(load.seconds for load in loads), latencies, sum(load.failed for load in loads))
    return Measured(
        block=block,
        when=when,
        requests=all_.requests,
        failed=all_.failed,
        p50_ms=all_.percentile_ms(0.5),
        p99_ms=all_.percentile_ms(0.99),
        rebuild=statistics.mean(rebuild for rebuild, _ in cores),
        others=statistics.mean(others for _, others in cores),
    )


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
    grid = Table("prefetch", "p50 ms", "p99 ms", "cores of the rebuild", "of others", "failed")
    for when in (ALONE, BESIDE):
        these = [one for one in found if one.when == when]
        grid.add_row(
            when,
            spread([one.p50_ms for one in these]).text(),
            spread([one.p99_ms for one in these]).text(),
            spread([one.rebuild for one in these]).text(),
            spread([one.others for one in these]).text(),
            str(sum(one.failed for one in these)),
        )
    return grid


def ratio(found: list[Measured]) -> Spread:
    """Of the p99 beside a rebuild to that alone, in the same block."""
    p99 = {(one.block, one.when): one.p99_ms for one in found}
    return spread([p99[block, BESIDE] / p99[block, ALONE] for block in sorted({block for block, _ in p99})])


def run(plan: Plan) -> tuple[list[Measured], Rebuilt]:
    """Raises `RuntimeError` with a sentence when the bench can't be run here."""
    found: list[Measured] = []
    with bench(plan) as bench_:
        for number in range(plan.blocks):
            for one in bench_.block(number):
                found.append(one)
                console.print(
                    f"block {number + 1}/{plan.blocks} {one.when:17} p50 {one.p50_ms:.2f} ms, p99 {one.p99_ms:.2f} ms,"
                    f" rebuild {one.rebuild:.2f} cores, others {one.others:.2f}, {one.failed} failed"
                )
        return found, bench_.rebuilt()


def main(
    events: Annotated[int, typer.Option(help="In the topic.")] = 500_000,
    blocks: Annotated[int, typer.Option(help="Of turns; the spread is theirs.")] = 5,
    turns: Annotated[int, typer.Option(help="Of a second and a half, with and without a rebuild, in a block.")] = 12,
    per_second: Annotated[float, typer.Option(help="Prefetches.")] = 300.0,
    json_: Annotated[bool, typer.Option("--json", help="Print JSON for programs.")] = False,
) -> None:
    """Measure prefetches alone, and beside a rebuild of the state."""
    try:
        found, rebuilt = run(Plan(events, blocks, turns, per_second))
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
