"""Everything that was sent, written down before it is sent, and what was answered."""

import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from tests.faults.provider import PREFETCHED, Message


@dataclass
class Attempt:
    """One sending of a message; times are monotonic. `status` None: the outcome is unknown, and `why` says how so."""

    to: str
    sent_at: float
    answered_at: float | None = None
    status: int | None = None
    event_id: str | None = None
    retry_after: str | None = None
    why: str = "no answer yet"

    @property
    def seconds(self) -> float | None:
        return self.answered_at - self.sent_at if self.answered_at is not None else None


@dataclass
class Line:
    message: Message
    attempts: list[Attempt] = field(default_factory=list)

    @property
    def accepted(self) -> Attempt | None:
        """The first attempt that was answered as one that is durable now."""
        return next((attempt for attempt in self.attempts if attempt.status == self.message.status), None)


class Ledger:
    """Outside of what is tested: in the memory of the test, which nobody kills."""

    def __init__(self) -> None:
        self._lines: dict[str, Line] = {}

    def __iter__(self) -> Iterator[Line]:
        return iter(self._lines.values())

    def write(self, message: Message, to: str) -> Attempt:
        """Before it is sent."""
        line = self._lines.setdefault(message.event_id, Line(message))
        line.attempts.append(Attempt(to, time.monotonic()))
        return line.attempts[-1]

    def answered(
        self, attempt: Attempt, status: int, event_id: str | None = None, retry_after: str | None = None
    ) -> None:
        attempt.answered_at = time.monotonic()
        attempt.status, attempt.event_id, attempt.retry_after, attempt.why = status, event_id, retry_after, ""

    def unknown(self, attempt: Attempt, why: str) -> None:
        """It may have arrived or not."""
        attempt.why = why

    def lines(self, topic: str) -> dict[str, Line]:
        """By event id."""
        return {id_: line for id_, line in self._lines.items() if line.message.topic == topic}

    def statuses(self, since: float = 0.0, to: str | None = None, prefetch: bool = False) -> Counter[int | None]:
        """Of the answers to ends of call, or to prefetches, that were sent after `since`; None: unknown."""
        return Counter(attempt.status for attempt in self._attempts(since, to, prefetch))

    def slowest_s(self, since: float = 0.0, to: str | None = None, prefetch: bool = False) -> float:
        seconds = [attempt.seconds for attempt in self._attempts(since, to, prefetch) if attempt.seconds is not None]
        return max(seconds, default=0.0)

    def _attempts(self, since: float, to: str | None, prefetch: bool) -> Iterator[Attempt]:
        for line in self:
            if (line.message.topic == PREFETCHED) == prefetch:
                yield from (
                    attempt for attempt in line.attempts if attempt.sent_at >= since and to in (None, attempt.to)
                )
