"""What was delivered, how fast, and what went wrong."""

import math
from array import array

import msgspec

from cli.simulator.call import Webhook

# Failures told one by one; of the rest only the number.
MAX_TOLD = 20


class Latency(msgspec.Struct, frozen=True):
    """Milliseconds, of answers that were what they should be."""

    answers: int
    p50_ms: float
    p99_ms: float
    max_ms: float


class Tally:
    """Counts of a delivery. `failures` are sentences; `undelivered` the sessions that the books can't know whole."""

    def __init__(self) -> None:
        self.calls = 0
        self.lost = 0
        self.retries = 0
        self.rejected = 0
        self.failed = 0
        self.failures: list[str] = []
        self.undelivered: set[str] = set()
        self.seconds = 0.0
        # Eight bytes an answer: a million calls may be delivered.
        self._ms: dict[Webhook, array[float]] = {"prefetch": array("d"), "end-of-call": array("d")}

    def answered(self, webhook: Webhook, seconds: float) -> None:
        self._ms[webhook].append(seconds * 1000)

    def fail(self, session_id: str, sentence: str) -> None:
        self.failed += 1
        self.undelivered.add(session_id)
        if len(self.failures) < MAX_TOLD:
            self.failures.append(f"{session_id}: {sentence}")

    def latency(self, webhook: Webhook) -> Latency | None:
        """None when nothing was answered."""
        values = sorted(self._ms[webhook])
        if not values:
            return None
        p50, p99 = (values[math.ceil(len(values) * part) - 1] for part in (0.5, 0.99))
        return Latency(len(values), round(p50, 2), round(p99, 2), round(values[-1], 2))
