"""What remains: samples of a server's stacks, as shares of its time."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rich.table import Table

_ROWS = 40


@dataclass(frozen=True)
class Profile:
    """`stacks` as `bench.apps.sampler` gives them."""

    requests: int
    stacks: Sequence[dict[str, Any]]

    @property
    def samples(self) -> int:
        return sum(one["samples"] for one in self.stacks)

    def own(self) -> Counter[str]:
        """Samples by the function that was running."""
        found: Counter[str] = Counter()
        for one in self.stacks:
            found[one["stack"][0]] += one["samples"]
        return found

    def within(self) -> Counter[str]:
        """Samples by function, with what it called."""
        found: Counter[str] = Counter()
        for one in self.stacks:
            for name in set(one["stack"]):
                found[name] += one["samples"]
        return found

    def table(self) -> Table:
        own, within = self.own(), self.within()
        table = Table("function", "itself", "with what it calls")
        for name, count in own.most_common(_ROWS):
            table.add_row(name, f"{count / self.samples:.1%}", f"{within[name] / self.samples:.1%}")
        return table

    def as_json(self) -> dict[str, Any]:
        return {"requests": self.requests, "samples": self.samples, "stacks": list(self.stacks)}
