"""The journal while its Kafka is away, and while what it has spooled is drained. On a broker that is paused for it."""

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

from bench import cpu
from bench.load import drive
from bench.measure import Effort, measure
from bench.report import Measurement
from bench.servers import Server
from runtime.local_kafka import LocalKafka

UP = "Kafka up"
AWAY = "Kafka away"

# Once the deadline of what was in flight has passed, everything goes to the spool at once.
_UNTIL_SPOOLING_S = 4.0

_LOOK_S = 0.05
_SLICE_S = 1.0  # of live traffic, between two looks at the spool
_DRAIN_DEADLINE_S = 120.0

_STATE = b"GET / HTTP/1.1\r\nhost: bench\r\n\r\n"


@dataclass(frozen=True)
class Drain:
    """`events` were in the spool, and in so many `seconds` there were none. The rest is of the live traffic meanwhile,
    0 without any; `spooled_meanwhile` are those of its events that the spool has taken, too."""

    round: int
    live_connections: int
    events: int
    seconds: float
    live_per_second: float
    live_p50_ms: float
    live_p99_ms: float
    failed: int

    @property
    def per_second(self) -> float:
        return self.events / self.seconds


class Outage:
    """One server and one broker that nobody else uses. Raises what `drive` raises."""

    def __init__(self, server: Server, kafka: LocalKafka, requests: Sequence[bytes], effort: Effort) -> None:
        self._server = server
        self._kafka = kafka
        self._requests = requests
        self._effort = effort

    def spooling(self, round_: int) -> list[Measurement]:
        """The same load with Kafka up, and paused. Leaves events in the spool, and Kafka paused."""
        up = self._measure(UP, round_)
        self._pause(round_)
        return [up, self._measure(AWAY, round_)]

    def drain(self, round_: int, live_connections: int) -> Drain:
        """Kafka comes back. Without live traffic, or with as much as so many connections can make."""
        if self._state()["spool_events"] == 0:
            self._pause(round_)
            self._drive(round_, self._effort.connections, self._effort.seconds)
        cpu.wait_for_quiet([self._server.pid, self._kafka.pid], self._effort.patience_s)
        events, started = self._state()["spool_events"], time.monotonic()
        self._kafka.resume()
        latencies: list[float] = []
        requests, failed = 0, 0
        while self._is_draining():
            if time.monotonic() - started > _DRAIN_DEADLINE_S:
                raise RuntimeError(f"the spool was not empty after {_DRAIN_DEADLINE_S:g} s: {self._state()}")
            if live_connections:
                load = drive(self._server.port, self._requests, live_connections, _SLICE_S, Random(round_))
                latencies += load.latencies
                requests, failed = requests + load.requests, failed + load.failed
            else:
                time.sleep(_LOOK_S)
        seconds = time.monotonic() - started
        latencies = sorted(latencies) or [0.0]
        return Drain(
            round=round_,
            live_connections=live_connections,
            events=events,
            seconds=seconds,
            live_per_second=requests / seconds,
            live_p50_ms=latencies[len(latencies) // 2] * 1000,
            live_p99_ms=latencies[int(len(latencies) * 0.99)] * 1000,
            failed=failed,
        )

    def _measure(self, case: str, round_: int) -> Measurement:
        return measure(case, self._server, self._requests, self._kafka.pid, round_, self._effort)

    def _pause(self, round_: int) -> None:
        self._kafka.pause()
        self._drive(round_, self._effort.connections, _UNTIL_SPOOLING_S)

    def _drive(self, round_: int, connections: int, seconds: float) -> None:
        drive(self._server.port, self._requests, connections, seconds, Random(round_))

    def _is_draining(self) -> bool:
        state = self._state()
        return bool(state["spool_events"]) or state["kafka"] != "connected"

    def _state(self) -> Any:
        return json.loads(self._server.answer(_STATE)[1])
