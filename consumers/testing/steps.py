"""The steps of a consumer, between any two of which its process may be killed."""

import inspect
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FrameType, SimpleNamespace
from typing import Any, Literal

from sqlalchemy import Connection

from consumers.contract import Record

Moment = Literal["before commit", "after commit"]


class Killed(BaseException):
    """The process ends here, as by `kill -9`; no `except Exception` may go on. But a `finally` still runs."""


class Steps:
    """Counts them: each line that the consumer runs in its own file, and what is before and after each commit.

    Is killed at step number `at` (the first is 1), or at the first `moment`, and then no more.
    """

    def __init__(self, file: str, at: int | None = None, moment: Moment | None = None) -> None:
        self._file = file
        self._at = at
        self._moment = moment
        self.count = 0
        self.killed_in: str | None = None

    def moment(self, moment: Moment) -> None:
        """Raises `Killed`."""
        if self.killed_in is None and moment == self._moment:
            self._kill(moment)
        self._step(moment)

    @contextmanager
    def counted(self) -> Iterator[None]:
        """Of the lines that this thread runs inside."""
        before = sys.gettrace()
        sys.settrace(self._trace)
        try:
            yield
        finally:
            sys.settrace(before)

    def _trace(self, frame: FrameType, event: str, _argument: Any) -> Any:
        if frame.f_code.co_filename != self._file:
            return None
        if event == "line":
            self._step(f"line {frame.f_lineno}")
        return self._trace

    def _step(self, where: str) -> None:
        self.count += 1
        if self.killed_in is None and self.count == self._at:
            self._kill(where)

    def _kill(self, where: str) -> None:
        self.killed_in = where
        raise Killed(where)


def watched(consumer: Any, steps: Steps) -> Any:
    """The same consumer, whose lines are counted."""

    def handle(tx: Connection, records: Sequence[Record]) -> None:
        with steps.counted():
            consumer.handle(tx, records)

    def deliver(records: Sequence[Record]) -> None:
        with steps.counted():
            consumer.deliver(records)

    async def deliver_async(records: Sequence[Record]) -> None:
        with steps.counted():
            await consumer.deliver(records)

    same = SimpleNamespace(name=consumer.name, topics=consumer.topics)
    if hasattr(consumer, "handle"):
        same.handle = handle
    else:
        same.deliver = deliver_async if inspect.iscoroutinefunction(consumer.deliver) else deliver
        same.max_records = getattr(consumer, "max_records", None)
    return same
