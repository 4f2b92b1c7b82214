"""What remains: samples of a server's stacks, as shares of its time."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rich.table import Table

_FUNCTIONS = 30

# A sample belongs to the innermost of its frames that is one of these: what asyncio does, it does for its caller.
_PARTS = (
    ("aiokafka/producer/message_accumulator:append", "appending the record to its batch"),
    ("aiokafka/producer/message_accumulator:_build", "checksum of the batch"),
    ("aiokafka/", "aiokafka: making, sending and following the request"),
    ("service/journal", "the journal"),
    ("schemas/", "headers of the event"),
    ("bench/apps", "the endpoint, and waking it"),
    ("protocols/http", "HTTP: reading the request, writing the answer"),
)
_REST = "the loop, and what else there is"


@dataclass(frozen=True)
class Profile:
    """`stacks` as `bench.apps.sampler` gives them."""

    requests: int
    stacks: Sequence[dict[str, Any]]

    @property
    def samples(self) -> int:
        return sum(one["samples"] for one in self.stacks)

    def parts(self) -> Counter[str]:
        """Samples by what the time was spent on."""
        found: Counter[str] = Counter()
        for one in self.stacks:
            found[next(filter(None, map(_part_of, one["stack"])), _REST)] += one["samples"]
        return found

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
        table = Table("of group commit's time", f"share of {self.samples} samples")
        for name, count in self.parts().most_common():
            table.add_row(name, f"{count / self.samples:.0%}")
        return table

    def functions(self) -> Table:
        own, within = self.own(), self.within()
        table = Table("function", "itself", "with what it calls")
        for name, count in own.most_common(_FUNCTIONS):
            table.add_row(name, f"{count / self.samples:.1%}", f"{within[name] / self.samples:.1%}")
        return table

    def as_json(self) -> dict[str, Any]:
        return {"requests": self.requests, "samples": self.samples, "parts": self.parts(), "functions": self.own()}


def _part_of(function: str) -> str | None:
    return next((part for piece, part in _PARTS if piece in function), None)
