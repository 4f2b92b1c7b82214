"""How far a rebuild is: a bar on a terminal, else a line now and then."""

import time
from types import TracebackType
from typing import Self

from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

from cli.context import err
from consumers.folding import Folding

LINE_EVERY_S = 5.0


class _Rate(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text(f"{task.finished_speed or task.speed or 0:,.0f}/s", style="progress.data.speed")


class RebuildProgress:
    """A context manager, on stderr. `events` is how many were folded, in all lives of the Kafka client together."""

    def __init__(self) -> None:
        self.events = 0
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.completed:,.0f} of {task.total:,.0f} events"),
            _Rate(),
            TimeRemainingColumn(),
            console=err,
            disable=not err.is_terminal,
        )
        self._folding: Folding | None = None
        self._before = 0
        self._line_at = 0.0
        self._first: tuple[float, int] | None = None  # when, and how much was passed then

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def step(self, folding: Folding) -> None:
        if folding is not self._folding:
            self._before, self._folding = self.events, folding
        self.events = self._before + folding.folded
        passed, total = folding.passed
        if not self._bar.tasks:
            self._bar.add_task(folding.generation, total=total, completed=passed)
        self._bar.update(self._bar.tasks[0].id, total=total, completed=passed)
        if not err.is_terminal:
            self._line(folding.generation, passed, total)

    def say(self, sentence: str) -> None:
        err.print(sentence, highlight=False, soft_wrap=True)

    def _line(self, name: str, passed: int, total: int) -> None:
        now = time.monotonic()
        if self._first is None:
            self._first = now, passed
        if now < self._line_at:
            return
        self._line_at = now + LINE_EVERY_S
        seconds, done = now - self._first[0], passed - self._first[1]
        rate = done / seconds if seconds > 0 else 0.0
        pace = f", {rate:,.0f}/s, {(total - passed) / rate:,.0f} s left" if rate > 0 else ""
        err.print(f"{name}: {passed:,} of {total:,} events{pace}", highlight=False, soft_wrap=True)
