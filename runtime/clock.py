"""The time, passed in where it is needed, so that a test can set it."""

import time
from collections.abc import Callable

# Microseconds since the epoch, by the wall clock.
Clock = Callable[[], int]


def system_clock() -> int:
    return time.time_ns() // 1000


class SteadyClock:
    """The wall clock, but it never goes back: when that is set back, time goes on from where it was.

    What one process receives later is then never said to be earlier. A wall clock that is ahead of ours is believed;
    whoever orders by what we say cuts it to the broker's time of append.
    """

    def __init__(self, wall: Clock = system_clock, elapsed_ns: Callable[[], int] = time.monotonic_ns) -> None:
        self._wall = wall
        self._elapsed_ns = elapsed_ns
        self._anchor = wall(), elapsed_ns()  # one name for both: it is read in threads, too

    def __call__(self) -> int:
        now_ns, wall = self._elapsed_ns(), self._wall()
        at, since_ns = self._anchor
        steady = at + (now_ns - since_ns) // 1000
        if wall < steady:
            return steady
        self._anchor = wall, now_ns
        return wall
