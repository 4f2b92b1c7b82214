"""How a slow step is shown: a bar on a terminal, one plain line elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bars

Advance = Callable[[int], None]


class Progress(Protocol):
    """Told of every step that may take seconds, and only of those: a warm start calls nothing."""

    def step(self, title: str, total_bytes: int | None = None) -> AbstractContextManager[Advance]:
        """Entered when the step begins, left when it ends, by success or by exception.

        Args:
            title: What happens, as the user may read it.
            total_bytes: The size of a download; None when the end is not known.

        Returns:
            A context manager whose value is called with the number of bytes that came since the last
            call. It may be called from several threads at once.
        """


class ConsoleProgress:
    """Progress on stderr, which leaves stdout to those who parse it."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(stderr=True)

    @contextmanager
    def step(self, title: str, total_bytes: int | None = None) -> Iterator[Advance]:
        if not self._console.is_terminal:
            self._console.print(f"{title} ...", markup=False, highlight=False, soft_wrap=True)
            yield _ignore
            return
        columns = [SpinnerColumn(), TextColumn("{task.description}", markup=False), TimeElapsedColumn()]
        if total_bytes is not None:
            columns[2:2] = [BarColumn(), DownloadColumn()]
        with Bars(*columns, console=self._console) as bars:
            task = bars.add_task(title, total=total_bytes)
            yield lambda count: bars.advance(task, count)
            bars.update(task, total=total_bytes or 1, completed=total_bytes or 1)


def _ignore(_count: int) -> None:
    """A plain line has nothing to advance."""
