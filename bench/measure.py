"""One measurement of one server: load from outside, processor time from `/proc`."""

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from bench import cpu
from bench.load import drive
from bench.report import Measurement
from bench.servers import Server

WARM_UP_S = 1.0


@dataclass(frozen=True)
class Effort:
    connections: int
    seconds: float
    patience_s: float  # for a quiet machine, before the measurement


def measure(
    case: str, server: Server, requests: Sequence[bytes], broker_pid: int, round_: int, effort: Effort
) -> Measurement:
    """Raises `LoadError` when the server stops answering."""
    dice = Random(round_)
    drive(server.port, requests, effort.connections, WARM_UP_S, dice)
    ours = [server.pid, broker_pid]
    cpu.wait_for_quiet(ours, effort.patience_s)
    bystanders = cpu.Bystanders([*ours, "self"])
    before, broker_before = cpu.used_s(server.pid), cpu.used_s(broker_pid)
    load = drive(server.port, requests, effort.connections, effort.seconds, dice)
    used_s, broker_s = cpu.used_s(server.pid) - before, cpu.used_s(broker_pid) - broker_before
    return Measurement(
        round=round_,
        case=case,
        server=server.name,
        requests=load.requests,
        failed=load.failed,
        per_second=load.per_second,
        p50_ms=load.percentile_ms(0.5),
        p99_ms=load.percentile_ms(0.99),
        cpu_us=used_s / load.requests * 1e6,
        core_share=used_s / load.seconds,
        broker_us=broker_s / load.requests * 1e6,
        bystanders=bystanders.cores(),
    )
