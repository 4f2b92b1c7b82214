"""The time, passed in where it is needed, so that a test can set it."""

import time
from collections.abc import Callable

# Microseconds since the epoch, by the wall clock.
Clock = Callable[[], int]


def system_clock() -> int:
    return time.time_ns() // 1000
