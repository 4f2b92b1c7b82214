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
    """One server, one case (a webhook, or so many connections), one round. `cpu_us` is processor time of the server a
    request; `core_share` how much of its core the server used; `bystanders` the cores that others kept busy."""

    round: int
    case: str
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
        return f"{self.median:,.{digits}f} ({self.low:,.{digits}f}-{self.high:,.{digits}f})"


def spread(values: Sequence[float]) -> Spread:
    return Spread(statistics.median(values), min(values), max(values))


@dataclass(frozen=True)
class Ratio:
    """What one server needed over what another did, in the same round; `added`: of what each adds to the bare one."""

    name: str
    over: str
    under: str
    value: Callable[[Measurement], float] = lambda one: one.cpu_us
    added: bool = False


class Report:
    """`cases` is what the column of cases is called."""

    def __init__(self, measurements: Sequence[Measurement], cases: str, ratios: Sequence[Ratio]) -> None:
        self._measurements = measurements
        self._cases = cases
        self._ratios = ratios

    def of(self, case: str, server: str, value: Callable[[Measurement], float]) -> Spread:
        return spread([value(one) for one in self._measurements if (one.case, one.server) == (case, server)])

    def ratio(self, case: str, ratio: Ratio) -> Spread:
        found = []
        for round_ in sorted({one.round for one in self._measurements}):
            of_server = {
                one.server: ratio.value(one) for one in self._measurements if (one.round, one.case) == (round_, case)
            }
            floor = of_server[BARE] if ratio.added else 0.0
            found.append((of_server[ratio.over] - floor) / (of_server[ratio.under] - floor))
        return spread(found)

    @property
    def cases(self) -> list[str]:
        return list(dict.fromkeys(one.case for one in self._measurements))

    @property
    def servers(self) -> list[str]:
        return list(dict.fromkeys(one.server for one in self._measurements))

    def table(self) -> Table:
        table = Table(self._cases, "server", "requests/s", "p50 ms", "p99 ms", "CPU us/request", "of its core")
        for case in self.cases:
            for server in self.servers:
                table.add_row(
                    case,
                    server,
                    self.of(case, server, lambda one: one.per_second).text(0),
                    f"{self.of(case, server, lambda one: one.p50_ms).median:.1f}",
                    self.of(case, server, lambda one: one.p99_ms).text(0),
                    self.of(case, server, lambda one: one.cpu_us).text(1),
                    f"{self.of(case, server, lambda one: one.core_share).median:.0%}",
                )
            table.add_section()
        return table

    def ratio_table(self) -> Table:
        table = Table("ratio", *self.cases)
        for ratio in self._ratios:
            table.add_row(ratio.name, *(self.ratio(case, ratio).text() for case in self.cases))
        return table

    def as_json(self) -> dict[str, Any]:
        return {
            "ratios": {
                case: {ratio.name: asdict(self.ratio(case, ratio)) for ratio in self._ratios} for case in self.cases
            },
            "measurements": [asdict(one) for one in self._measurements],
        }
