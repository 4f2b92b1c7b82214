"""Waiting between tries."""

import asyncio
import contextlib
import random

FIRST_S = 0.1
LONGEST_S = 10.0  # whatever was away is back for at most so long before we notice


class Backoff:
    """Twice as long each time, with jitter: those who failed together must not come back together."""

    def __init__(self, first_s: float = FIRST_S, longest_s: float = LONGEST_S) -> None:
        self._first = first_s
        self._longest = longest_s
        self._next = first_s

    async def wait(self, stop: asyncio.Event, at_least_s: float = 0.0) -> None:
        """Returns early when `stop` is set."""
        delay = max(at_least_s, self._next * random.uniform(0.5, 1.0))  # noqa: S311 - spreads load, guards nothing
        self._next = min(self._next * 2, self._longest)
        with contextlib.suppress(TimeoutError):  # the usual end of a wait
            await asyncio.wait_for(stop.wait(), delay)

    def reset(self) -> None:
        self._next = self._first
