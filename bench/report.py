"""What was measured, as medians and spreads; ratios are those of a round, whose measurements share its weather."""

import statistics
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rich.table import Table

BARE = "bare"
RINGLOG = "ringlog"
PEER = "FastAPI"


@dataclass(frozen=True)
class Measurement:
    """One server, one webhook, one round. `cpu_us` is processor time of the server a request; `core_share` how much
    of its core the server used; `bystanders` the cores that others kept busy meanwhile."""

    round: int
    webhook: str
    server: str
    requests: int
    failed: int
    per_second: float
    p50_ms: float
    p99_ms: float
    cpu_us: float
    core_share: float
    broker_us: float
    bystanders: float


@dataclass(frozen=True)
class Spread:
    median: float
    low: float
    high: float

    def text(self, digits: int = 2) -> str:
        return f"{self.median:.{digits}f} ({self.low:.{digits}f}-{self.high:.{digits}f})"


def spread(values: Sequence[float]) -> Spread:
    return Spread(statistics.median(values), min(values), max(values))


class Report:
    def __init__(self, measurements: Sequence[Measurement]) -> None:
        self._measurements = measurements

    def of(self, webhook: str, server: str, value: Callable[[Measurement], float]) -> Spread:
        return spread([value(one) for one in self._measurements if (one.webhook, one.server) == (webhook, server)])

    def ratio(self, webhook: str, over: str, under: str, added: bool = False) -> Spread:
        """Of processor time a request; `added`: of what each adds to the bare server."""
        ratios = []
        for round_ in sorted({one.round for one in self._measurements}):
            cost = {
                one.server: one.cpu_us for one in self._measurements if (one.round, one.webhook) == (round_, webhook)
            }
            floor = cost[BARE] if added else 0.0
            ratios.append((cost[over] - floor) / (cost[under] - floor))
        return spread(ratios)

    @property
    def webhooks(self) -> list[str]:
        return list(dict.fromkeys(one.webhook for one in self._measurements))

    @property
    def servers(self) -> list[str]:
        return list(dict.fromkeys(one.server for one in self._measurements))

    def ratios(self, webhook: str) -> dict[str, Spread]:
        """Of processor time a request, by what a reader asks."""
        return {
            "ringlog / bare": self.ratio(webhook, RINGLOG, BARE),
            "FastAPI / bare": self.ratio(webhook, PEER, BARE),
            "FastAPI / ringlog": self.ratio(webhook, PEER, RINGLOG),
            "FastAPI / ringlog, of what each adds to bare": self.ratio(webhook, PEER, RINGLOG, added=True),
        }

    def table(self) -> Table:
        table = Table("webhook", "server", "requests/s", "p50 ms", "p99 ms", "CPU us/request", "of its core")
        for webhook in self.webhooks:
            for server in self.servers:
                table.add_row(
                    webhook,
                    server,
                    self.of(webhook, server, lambda one: one.per_second).text(0),
                    f"{self.of(webhook, server, lambda one: one.p50_ms).median:.1f}",
                    f"{self.of(webhook, server, lambda one: one.p99_ms).median:.1f}",
                    self.of(webhook, server, lambda one: one.cpu_us).text(1),
                    f"{self.of(webhook, server, lambda one: one.core_share).median:.0%}",
                )
            table.add_section()
        return table

    def ratio_table(self) -> Table:
        table = Table("CPU a request", *self.webhooks)
        columns = [self.ratios(webhook) for webhook in self.webhooks]
        for name in columns[0]:
            table.add_row(name, *(column[name].text() for column in columns))
        return table

    def as_json(self) -> dict[str, Any]:
        return {
            "ratios": {
                webhook: {name: asdict(found) for name, found in self.ratios(webhook).items()}
                for webhook in self.webhooks
            },
            "measurements": [asdict(one) for one in self._measurements],
        }
