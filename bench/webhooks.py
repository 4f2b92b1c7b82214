"""Both webhooks under full load: ringlog, FastAPI doing the same, and the floor. `make bench`.

All servers run all the time, on one core that is theirs; load and broker have the other. In each round each server is
measured once for each webhook, in an order that changes, so that what others do on the machine hits all alike.
"""

import asyncio
import json
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Annotated

import typer
from rich.console import Console

from bench import calls, cpu, servers, stores
from bench.measure import Effort, measure
from bench.report import BARE, PEER, RINGLOG, Measurement, Ratio, Report
from bench.servers import Server, ServerError
from runtime import topics
from runtime.local_kafka import LocalKafka
from runtime.settings import load_settings
from schemas.topics import CALLS_ENDED, PARTITIONS_LOCALLY

PREFETCH = "prefetch"
END_OF_CALL = "end of call"

RATIOS = (
    Ratio("CPU: ringlog / bare", RINGLOG, BARE),
    Ratio("CPU: FastAPI / bare", PEER, BARE),
    Ratio("CPU: FastAPI / ringlog", PEER, RINGLOG),
    Ratio("CPU: FastAPI / ringlog, of what each adds to bare", PEER, RINGLOG, added=True),
)

_KEY = "a-secret-of-the-bench"
_IDENTITY_KEY = "an-identity-key-of-the-bench"
_PEER_PREFIX = "peer."

console = Console(stderr=True)


@dataclass(frozen=True)
class Plan:
    callers: int
    rounds: int
    effort: Effort


@dataclass(frozen=True)
class Bench:
    servers: list[Server]
    kafka_pid: int
    requests: dict[str, list[bytes]]


@contextmanager
def bench(plan: Plan, load_core: int, server_core: int) -> Iterator[Bench]:
    """Kafka, stores and servers, up and answering right."""
    known = calls.callers(plan.callers, dice := Random(1))
    requests = {
        PREFETCH: [calls.prefetch_request(caller, _KEY, dice) for caller in known],
        END_OF_CALL: [calls.end_of_call_request(caller, _KEY) for caller in known],
    }
    with tempfile.TemporaryDirectory(prefix="ringlog-bench-") as name, cpu.on_core(load_core):
        folder = Path(name)
        with LocalKafka(folder / "kafka") as kafka:
            running = _servers(folder, kafka.bootstrap_servers, known)
            try:
                for server in running:
                    server.start(server_core)
                    _check(server, requests)
                yield Bench(running, kafka.pid, requests)
            finally:
                for server in running:
                    server.stop()


def _servers(folder: Path, kafka: str, known: list[calls.Caller]) -> list[Server]:
    environment = {
        "RINGLOG_KAFKA_BOOTSTRAP_SERVERS": kafka,
        "RINGLOG_DATA_DIR": str(folder),
        "RINGLOG_WEBHOOK_KEYS": f"bench:{_KEY}",
        "RINGLOG_IDENTITY_KEY": _IDENTITY_KEY,
        "RINGLOG_LOG_FORMAT": "json",
    }
    settings = load_settings(
        kafka_bootstrap_servers=kafka,
        data_dir=folder,
        identity_key=_IDENTITY_KEY,
        topic_prefix="",
        topic_partitions=PARTITIONS_LOCALLY,
    )
    for prefix in ("", _PEER_PREFIX):
        asyncio.run(topics.apply(settings.model_copy(update={"topic_prefix": prefix})))
    stores.fill_ringlog(settings.state_dir, known, settings.identity())
    stores.fill_peer(folder / "peer.lmdb", known)
    peer = {
        "BENCH_KAFKA": kafka,
        "BENCH_STORE": str(folder / "peer.lmdb"),
        "BENCH_TOPIC": CALLS_ENDED.named(_PEER_PREFIX),
    }
    return [
        servers.uvicorn(BARE, "bench.apps.bare:app", {}, folder),
        servers.ringlog(environment, folder),
        servers.uvicorn(PEER, "bench.apps.fastapi_app:app", peer, folder),
    ]


def _check(server: Server, requests: dict[str, list[bytes]]) -> None:
    """Each must answer, and those that look a caller up must know who calls. Raises `ServerError`."""
    for webhook, sent in requests.items():
        deadline = time.monotonic() + servers.START_DEADLINE_S
        while (answered := server.answer(sent[7]))[0] != 200:
            if answered[0] != 503 or time.monotonic() > deadline:  # 503: ringlog listens before it has found its Kafka
                raise ServerError(f"{server.name} answered {webhook} with {answered[0]}: {answered[1][:500]!r}")
            time.sleep(0.1)
    if server.name != BARE:
        _, body = server.answer(requests[PREFETCH][7])
        answer = json.loads(body)
        if answer["metadata"].get("name") != "Customer 7" or "called 1 time before" not in answer["extra_prompt"]:
            raise ServerError(f"{server.name} does not know its caller: {body[:500]!r}")


def run(plan: Plan) -> list[Measurement]:
    """Raises `RuntimeError` with a sentence when the bench can't be run here."""
    load_core, server_core = cpu.cores()
    measurements = []
    console.print("filling the stores, starting Kafka and the servers", highlight=False)
    with bench(plan, load_core, server_core) as bench_:
        for round_ in range(plan.rounds):
            order = bench_.servers if round_ % 2 == 0 else bench_.servers[::-1]
            for webhook in (PREFETCH, END_OF_CALL):
                for server in order:
                    measured = measure(webhook, server, bench_.requests[webhook], bench_.kafka_pid, round_, plan.effort)
                    measurements.append(measured)
                    console.print(
                        f"round {round_ + 1}/{plan.rounds} {webhook:12} {server.name:8} {measured.per_second:7.0f}/s"
                        f" {measured.cpu_us:6.1f} us, {measured.core_share:.0%} of its core,"
                        f" others {measured.bystanders:.2f} cores, {measured.failed} failed",
                        highlight=False,
                    )
    return sorted(measurements, key=lambda one: (BARE, RINGLOG, PEER).index(one.server))


def main(
    callers: Annotated[int, typer.Option(help="Callers in the stores.")] = 20_000,
    rounds: Annotated[int, typer.Option(help="How often each is measured.")] = 5,
    seconds: Annotated[float, typer.Option(help="Of each measurement.")] = 4.0,
    connections: Annotated[int, typer.Option(help="Requests under way at once.")] = 64,
    patience: Annotated[float, typer.Option(help="Seconds to wait for a quiet machine, before each.")] = 20.0,
    json_: Annotated[bool, typer.Option("--json", help="Print JSON for programs.")] = False,
) -> None:
    """Measure prefetch and end of call: ringlog, FastAPI, and the bare server."""
    try:
        report = Report(run(Plan(callers, rounds, Effort(connections, seconds, patience))), "webhook", RATIOS)
    except RuntimeError as error:
        console.print(f"error: {error}", highlight=False, markup=False)
        raise typer.Exit(1) from None
    if json_:
        print(json.dumps(report.as_json(), indent=2))
        return
    out = Console()
    out.print(report.table())
    out.print(report.ratio_table())


if __name__ == "__main__":
    typer.run(main)
