"""What the books must say, summed up."""

from collections import Counter
from collections.abc import Container
from typing import Any

import msgspec

from cli.simulator.call import Call, CallBooks
from cli.simulator.plan import Plan


class CallerBooks(msgspec.Struct):
    """Of one number. Sums are over the calls where the value is known, micro-credits and milliseconds.

    `last` is the call that began last; `certain` is false when it can't be told which one that is, because a call does
    not say when it began.
    """

    calls: int = 0
    total_micros: int = 0
    duration_ms: int = 0
    certain: bool = True
    last: CallBooks | None = None
    last_metadata: dict[str, Any] = {}

    def add(self, books: CallBooks, metadata: dict[str, Any]) -> None:
        self.calls += 1
        self.total_micros += books.total_micros or 0
        self.duration_ms += books.duration_ms or 0
        if books.started_at is None:
            self.certain = False
        elif self.last is None or books.started_at > (self.last.started_at or 0):
            self.last, self.last_metadata = books, metadata


class Expectation(msgspec.Struct):
    """Totals of a plan. `costs` are micro-credits by (type, provider)."""

    calls: int = 0
    unknown_costs: int = 0
    total_micros: int = 0
    duration_ms: int = 0
    turns: int = 0
    function_calls: int = 0
    recordings: int = 0
    recording_bytes: int = 0
    web_calls: int = 0
    costs: Counter[tuple[str, str]] = msgspec.field(default_factory=Counter)
    chats: Counter[str] = msgspec.field(default_factory=Counter)
    shapes: Counter[str] = msgspec.field(default_factory=Counter)
    callers: dict[str, CallerBooks] = {}

    def add(self, call: Call) -> None:
        self.shapes[call.shape] += 1
        if (books := call.books) is None:
            return
        self.calls += 1
        self.unknown_costs += books.costs is None
        self.total_micros += books.total_micros or 0
        self.costs.update(books.costs or {})
        self.duration_ms += books.duration_ms or 0
        self.turns += len(books.turns)
        self.function_calls += len(books.function_calls)
        self.chats[books.chat_state] += 1
        if books.recording is not None:
            self.recordings += 1
            self.recording_bytes += books.recording.bytes
        if books.caller is None:
            self.web_calls += 1
        else:
            self.callers.setdefault(books.caller, CallerBooks()).add(books, call.metadata)


def expectation_of(plan: Plan, undelivered: Container[str] = ()) -> Expectation:
    """Without the calls that could not be delivered: of those nobody knows."""
    expected = Expectation()
    for call in plan:
        if call.session_id not in undelivered:
            expected.add(call)
    return expected
